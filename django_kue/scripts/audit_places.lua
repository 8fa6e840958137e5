-- A slice of one of the places that hold jobs' keys: those that have no record, and of leases that aren't a job's all.
-- Returns: the next cursor ('0': that was all), then keys.
-- ARGV: place cursor most
-- KEYS: jobs leases ghosts marks delayed completed failed cancelled kept_completed kept_failed kept_cancelled
-- KEYS: outcomes progress side
-- @include lib/dossier
local zsets = {
  delayed = delayed, completed = completed, failed = failed, cancelled = cancelled,
  kept_completed = kept_completed, kept_failed = kept_failed, kept_cancelled = kept_cancelled,
}
local hashes = { leases = leases, ghosts = ghosts, marks = marks, outcomes = outcomes, progress = progress }
local slice, step = nil, 2
if zsets[place] then slice = asked('ZSCAN', zsets[place], cursor, 'COUNT', most)
elseif hashes[place] then slice = asked('HSCAN', hashes[place], cursor, 'COUNT', most)
else
  slice, step = asked('SSCAN', side, cursor, 'COUNT', most), 1
end
slice = slice or { '0', {} }
local answer = { slice[1] }
for i = 1, #slice[2], step do
  local key = slice[2][i]
  if place == 'ghosts' or place == 'marks' or asked('HEXISTS', jobs, key) ~= 1 then answer[#answer + 1] = key end
end
return answer
