-- All-time sums of a queue's runs: two flat lists, for the queue and for its functions (measure.lua).
-- KEYS: run_sums function_sums
return { redis.call('HGETALL', KEYS.run_sums), redis.call('HGETALL', KEYS.function_sums) }
