-- How many jobs are in each state, exactly: delayed, waiting, active, completed, failed, cancelled.
-- KEYS: leases delayed completed failed cancelled
-- @include lib/depth
return {
  redis.call('ZCARD', delayed), depth(), redis.call('HLEN', leases),
  redis.call('ZCARD', completed), redis.call('ZCARD', failed), redis.call('ZCARD', cancelled),
}
