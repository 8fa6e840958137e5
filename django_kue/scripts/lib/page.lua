-- A page of a state's keys, in the order of `Queue.jobs`: finished jobs by when they finished, delayed ones by when
-- they're due, active ones by when they were claimed, waiting ones in the order in which they will be claimed; each
-- reversed if `is_reversed`. `only` (or '') is the only priority that's asked for.
-- A waiting list with stale entries has to be read from one end to know what's at an offset. A call reads 5,000
-- entries that way; beyond those it takes every entry for a job's, and passes long stale stretches in growing steps.
-- Such a page is only about right, but every page takes a bounded time.
-- KEYS: jobs waiting levels stale leases
-- @include lib/place
-- @include lib/waiting
local function page_of(state, skip, left, is_reversed, only)
  local keys = {}
  local BATCH = 100
  local exact, budget = 5000, 10000 -- entries that may be looked at: to count exactly, and in all

  -- Entries of a list between two positions, counted from the end where the page's order begins.
  local function entries_of(list, length, from, to)
    if not is_reversed then return redis.call('LRANGE', list, from, to) end
    local entries, turned = redis.call('LRANGE', list, length - 1 - to, length - 1 - from), {}
    for i = #entries, 1, -1 do turned[#turned + 1] = entries[i] end
    return turned
  end

  local function take(entry)
    if skip > 0 then
      skip = skip - 1
    elseif left > 0 then
      keys[#keys + 1] = key_and_seat(entry)
      left = left - 1
    end
  end

  local function take_clean(list)
    local length = redis.call('LLEN', list)
    if skip >= length then
      skip = skip - length
      return
    end
    local from = skip
    skip = 0
    for _, entry in ipairs(entries_of(list, length, from, math.min(from + left, length) - 1)) do take(entry) end
  end

  local function take_seated(list)
    local length, at, step = redis.call('LLEN', list), 0, BATCH
    while at < length and left > 0 and budget > 0 do
      if exact <= 0 and skip > 0 then
        local passed = math.min(skip, length - at)
        at, skip = at + passed, skip - passed
      else
        local entries, lookups = entries_of(list, length, at, math.min(at + BATCH, length) - 1), {}
        for i = 1, #entries do lookups[i] = (key_and_seat(entries[i])) end
        local records, is_empty = redis.call('HMGET', KEYS.jobs, unpack(lookups)), true
        for i = 1, #entries do
          if is_seated(entries[i], records[i]) then
            is_empty = false
            take(entries[i])
          end
        end
        at, exact, budget = at + #entries, exact - #entries, budget - #entries
        if exact <= 0 and is_empty then
          at = at + step
          step = step * 2
        end
      end
    end
  end

  if state == 'waiting' then
    local is_one = only and only ~= ''
    local order = is_one and { only } or redis.call(is_reversed and 'ZREVRANGE' or 'ZRANGE', KEYS.levels, 0, -1)
    for _, priority in ipairs(order) do
      if left == 0 then break end
      local is_clean = redis.call('HEXISTS', KEYS.stale, priority) == 0
      local list = KEYS.waiting .. priority
      if is_clean then take_clean(list)
      else
        take_seated(is_reversed and list or list .. ':front')
        take_seated(is_reversed and list .. ':front' or list)
      end
    end
  elseif state == 'active' then
    local held = redis.call('HGETALL', KEYS.leases)
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
  return keys
end
