-- Functions that have failed jobs, each with how many; at most the 500 that fail most.
return redis.call('ZREVRANGE', KEYS.failing, 0, 499, 'WITHSCORES')
