-- Pause (1) or resume (0) a queue for all workers at once. Returns 1 when that changed it.
-- ARGV: paused
-- KEYS: flags
-- @include lib/events
-- @include lib/wake
redis.call('HDEL', KEYS.flags, '') -- a first write that is never refused for want of memory
local changed
if paused == '1' then
  changed = redis.call('HSETNX', KEYS.flags, 'paused', now_text)
else
  changed = redis.call('HDEL', KEYS.flags, 'paused')
  wake_one()
end
if changed == 1 then emit(paused == '1' and 'paused' or 'resumed', '', '||') end
publish()
return changed
