-- The rows of some jobs, by key. The key of a dropped duplicate leads to the first job.
-- ARGV: keys...
-- KEYS: forward
-- @include lib/rows
local rows = {}
for i = keys_at, #ARGV do
  local row = row_of(ARGV[i])
  if not row then
    local first = redis.call('GET', KEYS.forward .. ARGV[i])
    row = first and row_of(first)
  end
  rows[#rows + 1] = row or nil
end
return rows
