-- A job's state is the place where it is.
-- KEYS: jobs leases delayed completed failed cancelled
local places = { delayed = KEYS.delayed, completed = KEYS.completed, failed = KEYS.failed, cancelled = KEYS.cancelled }

local function state_of(key)
  if redis.call('HEXISTS', KEYS.jobs, key) == 0 then return nil end
  if redis.call('HEXISTS', KEYS.leases, key) == 1 then return 'active' end
  for state, zset in pairs(places) do
    if redis.call('ZSCORE', zset, key) then return state end
  end
  return 'waiting'
end
