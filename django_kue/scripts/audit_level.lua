-- A slice of a priority's waiting lists, by the distance from their end, which claims don't change: first the list,
-- then its front list.
-- Returns: 1 a digest that shows whether the lists were touched since, 2 whether the priority is among the levels,
-- 3 how many stale entries are noted ('': none), 4 whether there's a front list, 5 how many entries were passed
-- (0: that was all), 6 how many of those are stale, then the keys of the others.
-- ARGV: priority first most
-- KEYS: jobs waiting levels stale
-- @include lib/shape
-- @include lib/waiting
local main, front = KEYS.waiting .. priority, KEYS.waiting .. priority .. ':front'

local function slice_of(list, length, skipped)
  local last = length - skipped - 1
  if last < 0 then return {} end
  return asked('LRANGE', list, math.max(0, last - most + 1), last) or {}
end

local length, ahead = asked('LLEN', main) or 0, asked('LLEN', front) or 0
local noted = asked('HGET', KEYS.stale, priority) or ''
local entries = slice_of(main, length, tonumber(first))
if #entries == 0 then entries = slice_of(front, ahead, first - length) end
local keys = {}
for i = 1, #entries do keys[i] = key_and_seat(entries[i]) end
local records = #keys > 0 and of_each('HMGET', KEYS.jobs, keys) or {}
local answer = {
  shape_of(priority), asked('ZSCORE', KEYS.levels, priority) and 1 or 0, noted, ahead > 0 and 1 or 0, #entries, 0,
}
for i = 1, #entries do
  if is_seated(entries[i], records[i]) then
    answer[#answer + 1] = keys[i]
  else
    answer[6] = answer[6] + 1
  end
end
return answer
