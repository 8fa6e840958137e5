-- How many finished and delayed jobs are in a span of time: delayed, completed, failed, cancelled.
-- With a function's name, only failed jobs can be counted.
-- ARGV: lowest highest name
-- KEYS: delayed completed failed cancelled failed_by
local function count(zset) return redis.call('ZCOUNT', zset, lowest, highest) end
if name ~= '' then return { 0, 0, count(KEYS.failed_by .. name), 0 } end
return { count(KEYS.delayed), count(KEYS.completed), count(KEYS.failed), count(KEYS.cancelled) }
