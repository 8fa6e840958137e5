-- A page of a state's jobs. Finished jobs by when they finished, delayed by when they're due,
-- active by when they were claimed, waiting in the order in which they will be claimed;
-- `newest` = 1 turns each order round.
-- ARGV: state offset limit newest
-- KEYS: waiting levels stale
-- @include lib/rows
-- @include lib/waiting
local skip, left = tonumber(offset), tonumber(limit)
local is_reversed = newest == '1'
local keys = {}

local function take_waiting(list, is_clean)
  local length = redis.call('LLEN', list)
  if is_clean and skip >= length then
    skip = skip - length
    return
  end
  local at = is_clean and skip or 0
  if is_clean then skip = 0 end
  while at < length and left > 0 do
    local from, to = at, math.min(at + 99, length - 1)
    if is_clean then to = math.min(to, at + left - 1) end
    local entries
    if is_reversed then
      entries = redis.call('LRANGE', list, length - 1 - to, length - 1 - from)
    else
      entries = redis.call('LRANGE', list, from, to)
    end
    local first, last, step = 1, #entries, 1
    if is_reversed then first, last, step = #entries, 1, -1 end
    for j = first, last, step do
      local key = key_and_seat(entries[j])
      if is_clean or is_seated(entries[j], redis.call('HGET', jobs, key)) then
        if skip > 0 then skip = skip - 1
        elseif left > 0 then
          keys[#keys + 1] = key
          left = left - 1
        end
      end
    end
    at = to + 1
  end
end

if state == 'waiting' then
  local order = redis.call(is_reversed and 'ZREVRANGE' or 'ZRANGE', levels, 0, -1)
  for _, priority in ipairs(order) do
    local is_clean = redis.call('HEXISTS', stale, priority) == 0
    local list = waiting .. priority
    local lists = is_clean and { list } or { list .. ':front', list }
    if is_reversed and not is_clean then lists = { list, list .. ':front' } end
    for _, one in ipairs(lists) do take_waiting(one, is_clean) end
    if left == 0 then break end
  end
elseif state == 'active' then
  local held = redis.call('HGETALL', leases)
  local rows = {}
  for j = 1, #held, 2 do
    rows[#rows + 1] = { tonumber(string.match(held[j + 1], '|(%d+)|') or 0), held[j] }
  end
  table.sort(rows, function(a, b)
    if a[1] == b[1] then return a[2] < b[2] end
    return a[1] < b[1]
  end)
  for j = 1, #rows do
    local at = is_reversed and #rows + 1 - j or j
    if j > skip and #keys < left then keys[#keys + 1] = rows[at][2] end
  end
elseif left > 0 then
  keys = redis.call(is_reversed and 'ZREVRANGE' or 'ZRANGE', places[state], skip, skip + left - 1)
end
return rows_of(keys)
