-- What was measured of a queue's runs since ever: two flat lists, of the queue and of its functions (measure.lua).
-- KEYS: run_sums function_sums
return { redis.call('HGETALL', KEYS.run_sums), redis.call('HGETALL', KEYS.function_sums) }
