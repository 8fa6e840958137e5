-- The waiting lists, one per priority. An entry is `key` or `key~seat`; it counts only while the
-- record's seat is the entry's. So a job that leaves from the middle costs O(1): its entry goes
-- stale. Lists that are mostly stale are compacted in slices: live entries move from the head
-- of the list to its *front list*, which is read first, and replaces the list when all have moved.
-- `stale` has a field for a priority exactly while it has stale entries or a front list.
-- KEYS: jobs waiting levels stale
-- @include lib/record
local SLICE = 64

local function entry_of(key, head)
  local seat = token(head, 's')
  return seat and key .. '~' .. seat or key
end

local function key_and_seat(entry)
  local tilde = string.find(entry, '~', 1, true)
  if tilde then return string.sub(entry, 1, tilde - 1), string.sub(entry, tilde + 1) end
  return entry, nil
end

local function push_back(priority, entries)
  if redis.call('RPUSH', KEYS.waiting .. priority, unpack(entries)) == #entries then
    redis.call('ZADD', KEYS.levels, string.format('%d', -priority), priority)
  end
end

-- The first of `entries` will be the first to run.
local function push_front(priority, entries)
  local list = KEYS.waiting .. priority
  if redis.call('HEXISTS', KEYS.stale, priority) == 1 and redis.call('EXISTS', list .. ':front') == 1 then
    list = list .. ':front'
  end
  local reversed = {}
  for i = #entries, 1, -1 do reversed[#reversed + 1] = entries[i] end
  redis.call('LPUSH', list, unpack(reversed))
  redis.call('ZADD', KEYS.levels, string.format('%d', -priority), priority)
end

local function drop_level(priority)
  redis.call('ZREM', KEYS.levels, priority)
  redis.call('HDEL', KEYS.stale, priority)
end

local function drop_if_empty(priority)
  local list = KEYS.waiting .. priority
  if redis.call('EXISTS', list, list .. ':front') == 0 then drop_level(priority) end
end

-- Pop up to `count` entries from the head; `is_stale` says that the level may have a front list.
local function pop_front(priority, count, is_stale)
  local list = KEYS.waiting .. priority
  local front = is_stale and redis.call('LPOP', list .. ':front', count) or {}
  if #front < count then
    local rest = redis.call('LPOP', list, string.format('%d', count - #front)) or {}
    if #front == 0 then return rest end
    for i = 1, #rest do front[#front + 1] = rest[i] end
  end
  return front
end

-- Change the number of stale entries; if it isn't a number, counting starts again.
local function count_stale(priority, change)
  -- formatted: Lua writes minus zero as -0, which isn't a whole number to Redis
  local count = redis.pcall('HINCRBY', KEYS.stale, priority, string.format('%d', change))
  if type(count) == 'number' then return count end
  redis.call('HSET', KEYS.stale, priority, math.max(change, 0))
  return math.max(change, 0)
end

local function settle_stale(priority, gone)
  if count_stale(priority, -gone) <= 0 then
    if redis.call('EXISTS', KEYS.waiting .. priority .. ':front') == 0 then
      redis.call('HDEL', KEYS.stale, priority)
    else
      redis.call('HSET', KEYS.stale, priority, 0)
    end
  end
end

local function is_seated(entry, record)
  if not record then return false end
  local _, seat = key_and_seat(entry)
  return token(head_of(record), 's') == seat
end

-- Compact one slice: of the list's first entries, live ones move to its front list, and the others are dropped.
local function compact_slice(priority, list)
  local entries = redis.call('LPOP', list, SLICE) or {}
  local live, lookups = {}, {}
  for i = 1, #entries do lookups[i] = (key_and_seat(entries[i])) end
  local records = #entries > 0 and redis.call('HMGET', KEYS.jobs, unpack(lookups)) or {}
  for i = 1, #entries do
    if is_seated(entries[i], records[i]) then live[#live + 1] = entries[i] end
  end
  if #live > 0 then redis.call('RPUSH', list .. ':front', unpack(live)) end
  if redis.call('EXISTS', list) == 0 and redis.call('EXISTS', list .. ':front') == 1 then
    redis.call('RENAME', list .. ':front', list)
  end
  settle_stale(priority, #entries - #live)
end

-- The counter only says when to look; whatever is dropped was seen to be stale. A counter that's too high (because its
-- list was evicted) is corrected here, and when the lists are empty.
local function compact(priority, dead)
  local list = KEYS.waiting .. priority
  for _ = 1, 3 do -- what is left of a level that's all stale is seen by then
    local length = redis.call('LLEN', list)
    local front = redis.call('LLEN', list .. ':front')
    if length + front == 0 then
      drop_level(priority)
      return
    end
    if dead > length + front then
      dead = length + front
      redis.call('HSET', KEYS.stale, priority, dead)
    end
    if dead < length + front and front == 0 and (dead * 2 <= length or length < SLICE) then return end
    compact_slice(priority, list)
    local left = tonumber(redis.call('HGET', KEYS.stale, priority) or '') or 0
    if dead < length + front or left == 0 then break end
    dead = left
  end
  drop_if_empty(priority)
end

-- Count a job's entry as stale; *before* that, the caller gives the record a new seat, or deletes it.
local function leave_waiting(priority)
  compact(priority, count_stale(priority, 1))
end

local function next_seat(head)
  return string.format('%d', number_of(head, 's') + 1)
end
