-- A supervisor saw its child die: it settles what the child was running, and gives back the rest.
-- The child's other jobs are not suspects: their neighbour was the culprit, and it's known.
-- Returns: the keys given back, then the keys settled.
-- ARGV: owner retention max_runs max_crashes culprits...
--   culprits: key outcome, again and again (outcomes as in lib/settle)
-- KEYS: jobs leases ghosts marks owners levels
-- @include lib/settle
-- @include lib/wake
redis.call('ZREM', owners, owner)
local culprits = {}
for i = culprits_at, #ARGV, 2 do culprits[ARGV[i]] = ARGV[i + 1] end
local ghosted = redis.call('HGETALL', ghosts)
for i = 1, #ghosted, 2 do
  if string.match(ghosted[i + 1], '([^|]*)$') == owner then
    redis.call('HDEL', ghosts, ghosted[i])
    redis.call('HDEL', marks, ghosted[i])
  end
end
local held = redis.call('HGETALL', leases)
local by_lease, order = {}, {}
for i = 1, #held, 2 do
  local key, lease = held[i], held[i + 1]
  if string.match(lease, '([^|]*)$') == owner then
    if not by_lease[lease] then
      by_lease[lease] = { {}, {} }
      order[#order + 1] = lease
    end
    table.insert(by_lease[lease][1], key)
    table.insert(by_lease[lease][2], culprits[key] or 'b')
  end
end
table.sort(order, function(a, b) return a > b end)
local given_back, settled = {}, {}
for _, lease in ipairs(order) do
  local keys, texts = by_lease[lease][1], by_lease[lease][2]
  for first = 1, #keys, 500 do
    local last = math.min(first + 499, #keys)
    settle(lease, { unpack(keys, first, last) }, { unpack(texts, first, last) }, retention, max_runs,
      tonumber(max_crashes))
  end
  for i = 1, #keys do
    if texts[i] == 'b' then given_back[#given_back + 1] = keys[i] else settled[#settled + 1] = keys[i] end
  end
end
if redis.call('EXISTS', levels) == 1 and not is_paused then wake_one() end
publish()
return { given_back, settled }
