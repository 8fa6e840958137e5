-- Publish this queue's events for the next `ms`, since somebody listens to them.
-- ARGV: ms
-- KEYS: flags
-- @include lib/clock
local heard_until = tonumber(redis.call('HGET', KEYS.flags, 'ev') or '') or 0
redis.call('HSET', KEYS.flags, 'ev', string.format('%d', math.max(now + ms, heard_until)))
return 1
