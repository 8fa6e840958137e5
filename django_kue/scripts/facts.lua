-- What is known about a queue besides its jobs.
-- Returns: 1 when it was paused (ms) or '', 2 the totals as a flat list, 3 a flat list of the minute counters
-- for each of the last hours, newest first, 4 Redis's time (ms).
-- ARGV: hours
-- KEYS: flags totals stats
-- @include lib/clock
local buckets = {}
local hour = math.floor(now / 3600000)
for i = 0, hours - 1 do
  buckets[#buckets + 1] = redis.call('HGETALL', KEYS.stats .. string.format('%d', hour - i))
end
return { redis.call('HGET', KEYS.flags, 'paused') or '', redis.call('HGETALL', KEYS.totals), buckets, now }
