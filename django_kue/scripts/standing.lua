-- Entries of a waiting list (`front` = 1: of its front list), by their distance from its end, which claims don't
-- change. That's the way to walk through a whole list, however much of it is stale.
-- Returns how many entries were passed, then the keys of those that aren't stale.
-- ARGV: priority front first most
-- KEYS: jobs waiting
-- @include lib/waiting
local list = KEYS.waiting .. priority .. (front == '1' and ':front' or '')
local length = redis.call('LLEN', list)
if length <= tonumber(first) then return { 0 } end
local entries = redis.call('LRANGE', list, math.max(0, length - first - most), length - first - 1)
local found, keys = { #entries }, {}
for i = 1, #entries do keys[i] = key_and_seat(entries[i]) end
local records = redis.call('HMGET', KEYS.jobs, unpack(keys))
for i = #entries, 1, -1 do
  if is_seated(entries[i], records[i]) then found[#found + 1] = keys[i] end
end
return found
