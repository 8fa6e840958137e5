-- A supervisor's sweep: jobs of dead owners go back, and what was kept long enough goes.
-- Returns the keys that were taken back, and those of them that failed.
-- ARGV: lease_ms retention max_runs max_crashes
-- KEYS: levels delayed leases
-- @include lib/rescue
-- @include lib/finish
-- @include lib/wake
redis.call('HDEL', KEYS.leases, '') -- a first write that is never refused for want of memory
local rescued = rescue(tonumber(lease_ms), retention, max_runs, tonumber(max_crashes))
trim_old(retention)
-- The worker that the last bell rang for may have died before it looked: ring again.
local is_due = redis.call('EXISTS', KEYS.levels) == 1 or redis.call('ZCOUNT', KEYS.delayed, '-inf', now_text) > 0
if is_due and not is_paused then wake_one() end
publish()
return { rescued, failed_ }
