-- A job's key, its logs (newest `most` of them) and its runs that didn't complete, oldest first. The key of a
-- duplicate that was dropped leads to the first.
-- ARGV: key most
-- KEYS: forward logs runs
local own = redis.call('GET', KEYS.forward .. key) or key
return { own, redis.call('LRANGE', KEYS.logs .. own, -most, -1), redis.call('LRANGE', KEYS.runs .. own, 0, -1) }
