-- The priorities that waiting jobs have, highest first.
-- KEYS: levels
return redis.call('ZRANGE', KEYS.levels, 0, -1)
