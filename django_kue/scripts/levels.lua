-- The priorities that waiting jobs have, highest first.
return redis.call('ZRANGE', KEYS.levels, 0, -1)
