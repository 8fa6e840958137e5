-- Schedules of a queue whose tick has come, the earliest first.
-- Returns: now (ms), the earliest future tick ('' for none), then a flat list: name, record, its tick.
-- ARGV: most
-- KEYS: schedules ticks
-- @include lib/clock
local found = redis.call('ZRANGEBYSCORE', KEYS.ticks, '-inf', now_text, 'WITHSCORES', 'LIMIT', 0, most)
local coming = redis.call('ZRANGEBYSCORE', KEYS.ticks, '(' .. now_text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local answer = { now, coming[2] or '' }
for i = 1, #found, 2 do
  local record = redis.call('HGET', KEYS.schedules, found[i])
  if record then
    answer[#answer + 1] = found[i]
    answer[#answer + 1] = record
    answer[#answer + 1] = found[i + 1]
  else
    redis.call('ZREM', KEYS.ticks, found[i]) -- nobody's: its record was damaged and put aside
  end
end
return answer
