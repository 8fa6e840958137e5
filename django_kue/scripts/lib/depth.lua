-- The exact number of waiting jobs: the entries of all lists without the stale ones. O(priorities).
-- KEYS: waiting levels stale
local function depth()
  local waits = 0
  for _, priority in ipairs(redis.call('ZRANGE', KEYS.levels, 0, -1)) do
    waits = waits + redis.call('LLEN', KEYS.waiting .. priority)
    local dead = redis.call('HGET', KEYS.stale, priority)
    if dead then waits = waits + redis.call('LLEN', KEYS.waiting .. priority .. ':front') - (tonumber(dead) or 0) end
  end
  return waits
end
