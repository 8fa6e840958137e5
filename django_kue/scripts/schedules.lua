-- Schedules of a queue as they're stored: those that are named, or all if none is.
-- Returns: now (ms), then a flat list: name, record, next tick ('' for none), list of its last ticks.
-- ARGV: names...
-- KEYS: schedules ticks ticked
-- @include lib/clock
local names = #ARGV > 0 and ARGV or redis.call('HKEYS', KEYS.schedules)
local answer = { now }
for i = 1, #names do
  local record = redis.call('HGET', KEYS.schedules, names[i])
  if record then
    answer[#answer + 1] = names[i]
    answer[#answer + 1] = record
    answer[#answer + 1] = redis.call('ZSCORE', KEYS.ticks, names[i]) or ''
    answer[#answer + 1] = redis.call('LRANGE', KEYS.ticked .. names[i], 0, -1)
  end
end
return answer
