-- A slice of one of the places that hold jobs' keys: the keys without a record; of ghosts and marks, all keys.
-- Returns: the next cursor ('0': that was all), then keys.
-- ARGV: place cursor most
-- KEYS: jobs leases ghosts marks delayed completed failed cancelled kept_completed kept_failed kept_cancelled
-- KEYS: outcomes progress side
-- @include lib/dossier
local zsets = {
  delayed = KEYS.delayed, completed = KEYS.completed, failed = KEYS.failed, cancelled = KEYS.cancelled,
  kept_completed = KEYS.kept_completed, kept_failed = KEYS.kept_failed, kept_cancelled = KEYS.kept_cancelled,
}
local hashes = {
  leases = KEYS.leases, ghosts = KEYS.ghosts, marks = KEYS.marks, outcomes = KEYS.outcomes,
  progress = KEYS.progress,
}
local slice, step = nil, 2
if zsets[place] then slice = asked('ZSCAN', zsets[place], cursor, 'COUNT', most)
elseif hashes[place] then slice = asked('HSCAN', hashes[place], cursor, 'COUNT', most)
else
  slice, step = asked('SSCAN', KEYS.side, cursor, 'COUNT', most), 1
end
slice = slice or { '0', {} }
local answer = { slice[1] }
for i = 1, #slice[2], step do
  local key = slice[2][i]
  if place == 'ghosts' or place == 'marks' or asked('HEXISTS', KEYS.jobs, key) ~= 1 then answer[#answer + 1] = key end
end
return answer
