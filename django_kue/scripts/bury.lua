-- A supervisor saw its child die: settle what the child was running, and give back the rest.
-- The child's other jobs are not suspects, since they weren't running.
-- Returns: the keys given back, and the keys settled; then the keys among all these that failed, and those that were
-- cancelled by their mark.
-- ARGV: owner retention max_runs max_crashes ends...
--   ends: key outcome, repeated (outcomes as in lib/settle)
-- KEYS: leases ghosts marks owners levels
-- @include lib/order
-- @include lib/settle
-- @include lib/wake
redis.call('ZREM', KEYS.owners, owner)
local ends = {}
for i = ends_at, #ARGV, 2 do ends[ARGV[i]] = ARGV[i + 1] end
local ghosted = redis.call('HGETALL', KEYS.ghosts)
for i = 1, #ghosted, 2 do
  if string.match(ghosted[i + 1], '([^|]*)$') == owner then
    redis.call('HDEL', KEYS.ghosts, ghosted[i])
    redis.call('HDEL', KEYS.marks, ghosted[i])
  end
end
local function sequence_of(lease) return tonumber(string.match(lease, '^%d+')) or 0 end

local held = redis.call('HGETALL', KEYS.leases)
local by_lease, order = {}, {}
for i = 1, #held, 2 do
  local key, lease = held[i], held[i + 1]
  if string.match(lease, '([^|]*)$') == owner then
    if not by_lease[lease] then
      by_lease[lease] = {}
      order[#order + 1] = lease
    end
    table.insert(by_lease[lease], key)
  end
end
-- What's pushed to the front last is first there: begin with the newest lease and its newest jobs.
table.sort(order, function(a, b) return sequence_of(a) > sequence_of(b) end)
local given_back, settled, cancelled_ = {}, {}, {}
for _, lease in ipairs(order) do
  local keys, texts = by_lease[lease], {}
  table.sort(keys, is_older)
  for i, key in ipairs(keys) do
    texts[i] = ends[key] or 'b'
    if ends[key] then settled[#settled + 1] = key else given_back[#given_back + 1] = key end
  end
  for last = #keys, 1, -500 do
    local first = math.max(last - 499, 1)
    local _, ended = settle(lease, { unpack(keys, first, last) }, { unpack(texts, first, last) }, retention,
      max_runs, tonumber(max_crashes))
    for _, key in ipairs(ended) do cancelled_[#cancelled_ + 1] = key end
  end
end
if redis.call('EXISTS', KEYS.levels) == 1 and not is_paused then wake_one() end
publish()
return { given_back, settled, failed_, cancelled_ }
