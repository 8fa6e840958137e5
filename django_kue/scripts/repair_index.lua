-- Drop wrong entries of an index, if they still are wrong; a function's failed jobs are counted again.
-- Returns how many were dropped or counted right.
-- ARGV: index part entries...
-- KEYS: unique search failed_by
-- @include lib/entries
-- @include lib/finish
local gone = 0
for i = entries_at, #ARGV do
  local entry = ARGV[i]
  if not is_right[index](part, entry) then
    gone = gone + 1
    if index == 'unique' then redis.call('HDEL', KEYS.unique, entry)
    elseif index == 'search' then redis.call('ZREM', KEYS.search .. part, entry)
    elseif index == 'failed_by' then redis.call('ZREM', KEYS.failed_by .. part, entry)
    else count_failed(entry) end
  end
end
if index == 'failed_by' then count_failed(part) end
return gone
