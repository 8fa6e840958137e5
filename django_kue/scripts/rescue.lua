-- A supervisor's sweep: jobs of dead owners go back, and jobs past their retention are removed.
-- Returns: 1 the keys that were taken back, 2 those of them that failed, 3 whether Redis knows of no earlier sweep.
-- ARGV: lease_ms retention max_runs max_crashes
-- KEYS: levels delayed leases
-- @include lib/rescue
-- @include lib/finish
-- @include lib/wake
redis.call('HDEL', KEYS.leases, '') -- a first write that is never refused for want of memory
local rescued, is_first = rescue(tonumber(lease_ms), retention, max_runs, tonumber(max_crashes))
trim_old(retention)
-- The worker that heard the last bell may have died before it looked: ring again.
local is_due = redis.call('EXISTS', KEYS.levels) == 1 or redis.call('ZCOUNT', KEYS.delayed, '-inf', now_text) > 0
if is_due and not is_paused then wake_one() end
publish()
return { rescued, failed_, is_first and 1 or 0 }
