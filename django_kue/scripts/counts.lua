-- How many jobs are in each state, exactly: delayed, waiting, active, completed, failed, cancelled.
-- KEYS: waiting levels stale leases delayed completed failed cancelled
local waits = 0
for _, priority in ipairs(redis.call('ZRANGE', levels, 0, -1)) do
  waits = waits + redis.call('LLEN', waiting .. priority)
  local dead = redis.call('HGET', stale, priority)
  if dead then waits = waits + redis.call('LLEN', waiting .. priority .. ':front') - dead end
end
return {
  redis.call('ZCARD', delayed), waits, redis.call('HLEN', leases),
  redis.call('ZCARD', completed), redis.call('ZCARD', failed), redis.call('ZCARD', cancelled),
}
