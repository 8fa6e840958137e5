-- A supervisor's sweep: jobs of dead owners go back, and what was kept long enough goes.
-- Returns the keys that were taken back.
-- ARGV: lease_ms retention max_runs max_crashes
-- KEYS: levels
-- @include lib/rescue
-- @include lib/finish
-- @include lib/wake
redis.call('HDEL', leases, '') -- a first write that is never refused for want of memory
local rescued = rescue(tonumber(lease_ms), retention, max_runs, tonumber(max_crashes))
trim_old(retention)
if #rescued > 0 and not is_paused and redis.call('EXISTS', levels) == 1 then wake_one() end
publish()
return rescued
