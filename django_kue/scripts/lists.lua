-- A job's key, the newest `most` of its log lines, and its runs that didn't complete, oldest first. The key of a
-- dropped duplicate leads to the first job.
-- ARGV: key most
-- KEYS: forward logs runs
local own = redis.call('GET', KEYS.forward .. key) or key
return { own, redis.call('LRANGE', KEYS.logs .. own, -most, -1), redis.call('LRANGE', KEYS.runs .. own, 0, -1) }
