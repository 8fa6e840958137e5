-- A worker says how it is; the answer carries an order (stop), or ''.
-- Workers that were silent for an hour are forgotten.
-- ARGV: worker text is_leaving tiers busy slots
--   busy, slots: samples of how many of its slots were in use, added up since it last said so
-- KEYS: workers pulses orders load
-- @include lib/tiers
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', pulses, '-inf', string.format('%d', now - 3600000))) do
  redis.call('HDEL', workers, gone)
  redis.call('HDEL', orders, gone)
  redis.call('ZREM', pulses, gone)
end
local order = redis.call('HGET', orders, worker) or ''
redis.call('HDEL', workers, '') -- a first write that is never refused for want of memory
if is_leaving == '1' then
  redis.call('HDEL', workers, worker)
  redis.call('HDEL', orders, worker)
  redis.call('ZREM', pulses, worker)
else
  redis.call('HSET', workers, worker, text)
  redis.call('ZADD', pulses, now, worker)
end
if slots ~= '0' then
  in_each_tier(load, tiers, function(key, bucket, expires)
    redis.pcall('HINCRBY', key, bucket .. 'b', busy) -- where no number stands, there's none to show
    redis.pcall('HINCRBY', key, bucket .. 's', slots)
    redis.call('EXPIREAT', key, expires)
  end)
end
return order
