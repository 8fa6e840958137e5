-- What is known across all queues: the queues that ever had a job, and the workers.
-- `name` (unless '') joins the queues; `worker` (unless '') gets an order.
-- Returns: 1 queue names, 2 workers as a flat list (worker, JSON), 3 their pulses as a flat list
-- (worker, ms), 4 Redis's time (ms).
-- ARGV: name worker order
-- KEYS: queues workers pulses orders
-- @include lib/clock
if name ~= '' then redis.call('SADD', KEYS.queues, name) end
if worker ~= '' and redis.call('HEXISTS', KEYS.workers, worker) == 1 then
  redis.call('HDEL', KEYS.orders, '') -- a first write that is never refused for want of memory
  redis.call('HSET', KEYS.orders, worker, order)
end
return {
  redis.call('SMEMBERS', KEYS.queues), redis.call('HGETALL', KEYS.workers),
  redis.call('ZRANGE', KEYS.pulses, 0, -1, 'WITHSCORES'), now,
}
