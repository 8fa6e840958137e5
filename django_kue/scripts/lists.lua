-- A job's logs (newest `most` of them) and its runs that didn't complete, oldest first.
-- ARGV: key most
-- KEYS: logs runs
return { redis.call('LRANGE', KEYS.logs .. key, -most, -1), redis.call('LRANGE', KEYS.runs .. key, 0, -1) }
