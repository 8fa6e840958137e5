-- Where a job is, is its state.
-- KEYS: jobs leases delayed completed failed cancelled
local places = { delayed = delayed, completed = completed, failed = failed, cancelled = cancelled }

local function state_of(key)
  if redis.call('HEXISTS', jobs, key) == 0 then return nil end
  if redis.call('HEXISTS', leases, key) == 1 then return 'active' end
  for state, zset in pairs(places) do
    if redis.call('ZSCORE', zset, key) then return state end
  end
  return 'waiting'
end
