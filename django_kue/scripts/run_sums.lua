-- What was measured of a queue's runs since ever: two flat lists, of the queue and of its functions (measure.lua).
return { redis.call('HGETALL', KEYS.run_sums), redis.call('HGETALL', KEYS.function_sums) }
