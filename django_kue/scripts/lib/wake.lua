-- Wake one worker that waits on a blocking pop; it wakes the next if more remains.
-- KEYS: wake
local function wake_one()
  redis.call('ZADD', KEYS.wake, '0', '0')
end
