-- A worker announces how it is; the reply is an order (stop), or ''.
-- Workers that have been silent for an hour are forgotten.
-- ARGV: worker text is_leaving tiers busy slots
--   busy, slots: samples of how many of its slots were in use, added up since its last announcement
-- KEYS: workers pulses orders load
-- @include lib/tiers
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS.pulses, '-inf', string.format('%d', now - 3600000))) do
  redis.call('HDEL', KEYS.workers, gone)
  redis.call('HDEL', KEYS.orders, gone)
  redis.call('ZREM', KEYS.pulses, gone)
end
local order = redis.call('HGET', KEYS.orders, worker) or ''
redis.call('HDEL', KEYS.workers, '') -- a first write that is never refused for want of memory
if is_leaving == '1' then
  redis.call('HDEL', KEYS.workers, worker)
  redis.call('HDEL', KEYS.orders, worker)
  redis.call('ZREM', KEYS.pulses, worker)
else
  redis.call('HSET', KEYS.workers, worker, text)
  redis.call('ZADD', KEYS.pulses, now, worker)
end
if slots ~= '0' then
  in_each_tier(KEYS.load, tiers, function(key, bucket, expires)
    redis.pcall('HINCRBY', key, bucket .. 'b', busy) -- where no number stands, there's none to show
    redis.pcall('HINCRBY', key, bucket .. 's', slots)
    redis.call('EXPIREAT', key, expires)
  end)
end
return order
