-- Functions that have failed jobs, each with how many; at most the 500 that have the most.
-- KEYS: failing
return redis.call('ZREVRANGE', KEYS.failing, 0, 499, 'WITHSCORES')
