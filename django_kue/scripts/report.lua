-- What running jobs report: progress, log lines, and that a suspect has started.
-- Reports are fenced like outcomes: a stale worker's report is refused.
-- Returns the keys whose report was refused.
-- ARGV: max_lines items...
--   items: lease key kind text, repeated; kind p (progress), l (log line), y (started)
-- KEYS: jobs leases progress logs side
-- @include lib/events
redis.call('HDEL', KEYS.leases, '') -- a first write that is never refused for want of memory
local refused = {}
for i = items_at, #ARGV, 4 do
  local lease, key, kind, text = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if redis.call('HGET', KEYS.leases, key) ~= lease then
    refused[#refused + 1] = key
  elseif kind == 'p' then
    redis.call('HSET', KEYS.progress, key, text)
    if is_heard then emit('progressed', key, redis.call('HGET', KEYS.jobs, key), text) end
  elseif kind == 'l' and max_lines == '0' then
    -- no lines are kept
  elseif kind == 'l' then
    redis.call('RPUSH', KEYS.logs .. key, now_text .. '|' .. text)
    redis.call('LTRIM', KEYS.logs .. key, -max_lines, -1)
    redis.call('SADD', KEYS.side, key)
  else
    local record = redis.call('HGET', KEYS.jobs, key)
    if record then redis.call('HSET', KEYS.jobs, key, with_tokens(record, { y = '1' })) end
  end
end
publish()
return refused
