-- How many jobs wait, exactly: the entries of all lists without the stale ones. O(priorities).
-- KEYS: waiting levels stale
local function depth()
  local waits = 0
  for _, priority in ipairs(redis.call('ZRANGE', levels, 0, -1)) do
    waits = waits + redis.call('LLEN', waiting .. priority)
    local dead = redis.call('HGET', stale, priority)
    if dead then waits = waits + redis.call('LLEN', waiting .. priority .. ':front') - (tonumber(dead) or 0) end
  end
  return waits
end
