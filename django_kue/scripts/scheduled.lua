-- The queues that have or had schedules; `queue` (unless '') joins them.
-- ARGV: queue
-- KEYS: scheduled
if queue ~= '' then redis.call('SADD', KEYS.scheduled, queue) end
return redis.call('SMEMBERS', KEYS.scheduled)
