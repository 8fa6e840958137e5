-- Who holds the leases of a queue's active jobs.
-- Returns a flat list: owner, how many jobs, its deadline (ms) or '' if nobody would notice its death; the last entry
-- is Redis's time in ms.
-- KEYS: leases owners
-- @include lib/clock
local held = redis.call('HGETALL', KEYS.leases)
local count, order = {}, {}
for i = 2, #held, 2 do
  local owner = string.match(held[i], '([^|]*)$')
  if not count[owner] then order[#order + 1] = owner end
  count[owner] = (count[owner] or 0) + 1
end
local found = {}
for _, owner in ipairs(order) do
  found[#found + 1] = owner
  found[#found + 1] = count[owner]
  found[#found + 1] = redis.call('ZSCORE', KEYS.owners, owner) or ''
end
found[#found + 1] = now
return found
