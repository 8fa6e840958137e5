-- Somebody listens to this queue's events for the next `ms`.
-- ARGV: ms
-- KEYS: flags
-- @include lib/clock
redis.call('HSET', flags, 'ev', string.format('%d', math.max(now + ms, tonumber(redis.call('HGET', flags, 'ev') or '') or 0)))
return 1
