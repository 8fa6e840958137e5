-- How many finished and delayed jobs are within a span of time: delayed, completed, failed, cancelled.
-- With a function's name only failed jobs can be counted.
-- ARGV: lowest highest name
-- KEYS: delayed completed failed cancelled failed_by
local function count(zset) return redis.call('ZCOUNT', zset, lowest, highest) end
if name ~= '' then return { 0, 0, count(failed_by .. name), 0 } end
return { count(delayed), count(completed), count(failed), count(cancelled) }
