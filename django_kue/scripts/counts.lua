-- How many jobs are in each state, exactly: delayed, waiting, active, completed, failed, cancelled.
-- KEYS: leases delayed completed failed cancelled
-- @include lib/depth
return {
  redis.call('ZCARD', KEYS.delayed), depth(), redis.call('HLEN', KEYS.leases),
  redis.call('ZCARD', KEYS.completed), redis.call('ZCARD', KEYS.failed), redis.call('ZCARD', KEYS.cancelled),
}
