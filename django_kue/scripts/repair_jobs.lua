-- Put jobs right, each as a whole and by what it looks like now: what an audit saw may be over. A job's record is
-- never deleted, and neither is what its runs left behind.
-- Returns the keys of the jobs that were no longer as the audit saw them.
-- ARGV: lease_ms items...
--   items: key created fault seen priorities, repeated
--   fault: `nowhere` (seen: the seat), `places` (seen: the seat; priorities: whose lists have its entry, with commas),
--          `unreadable` (seen: SHA-1 of the record; priorities as above), `progress` (seen: SHA-1 of it), '' (all else)
-- KEYS: delayed failed cancelled completed leases owners outcomes progress side logs runs jobs stale waiting
-- KEYS: failed_by unique search ghosts marks levels
-- @include lib/spots
-- @include lib/finish
-- @include lib/waiting
-- @include lib/wake
-- @include lib/quarantine
local UNREADABLE = '{"type":"django_kue.records.UnreadableRecord","message":"what is stored is not a job that can be read"}'
-- A place where it's still to run wins over one where it has ended: better once too often than never.
local PREFERENCE = { 'delayed', 'failed', 'cancelled', 'completed' }
local LETTERS = { failed = 'f', cancelled = 'x', completed = 'c' }
local zsets = { delayed = KEYS.delayed, failed = KEYS.failed, cancelled = KEYS.cancelled, completed = KEYS.completed }

local function is_held(key)
  local lease = redis.call('HGET', KEYS.leases, key)
  if lease and is_watched(lease) == 0 then
    redis.call('ZADD', KEYS.owners, now + lease_ms, string.match(lease, '([^|]*)$'))
  end
  return lease
end

local function place_of(key)
  for _, state in ipairs(PREFERENCE) do
    if redis.call('ZSCORE', zsets[state], key) then return state end
  end
end

-- Take a job out of all places but one (nil: out of all).
local function leave_all_but(state, key)
  for other, zset in pairs(zsets) do
    if other ~= state and redis.call('ZREM', zset, key) == 1 and other == 'failed' then unlist_failed({ key }) end
    if other ~= state and kept[other] then redis.call('ZREM', kept[other], key) end
  end
  if not LETTERS[state] then keep_aside('o', KEYS.outcomes, key) end
end

-- Drop the lease, places, progress and lists of a key without a record. Its ghost stays, as does the ghost's mark.
local function forget(key)
  redis.call('HDEL', KEYS.leases, key)
  leave_all_but(nil, key)
  redis.call('HDEL', KEYS.progress, key)
  redis.call('SREM', KEYS.side, key)
  redis.call('DEL', KEYS.logs .. key, KEYS.runs .. key)
end

local function put_in_line(key, record)
  record = with_tokens(record, { s = next_seat(head_of(record)) })
  redis.call('HSET', KEYS.jobs, key, record)
  local head = head_of(record)
  push_back(priority_of(head), { entry_of(key, head) })
end

-- Put a job that's in no state back to where it was according to its outcome or its time; otherwise it waits.
local function restore(key, record)
  local letter, at = string.match(redis.call('HGET', KEYS.outcomes, key) or '', '^([cfx])|(%d+)|')
  for state, one in pairs(LETTERS) do
    if one == letter then
      redis.call('ZADD', zsets[state], at, key)
      return
    end
  end
  local due = number_of(head_of(record), 'd')
  if due > now then
    redis.call('ZADD', KEYS.delayed, string.format('%d', due), key)
  else
    put_in_line(key, record)
  end
end

-- How many entries the job has in these lists; they go stale when it gets a new seat.
local function entries_by_priority(key, head, priorities)
  local counts, total = {}, 0
  for priority in string.gmatch(priorities, '[^,]+') do
    if not counts[priority] then
      counts[priority] = entries_in(priority, own_entry(key, head), false)
      total = total + counts[priority]
    end
  end
  return counts, total
end

local function settle_places(key, record, priorities)
  local head = head_of(record)
  local counts, total = entries_by_priority(key, head, priority_of(head) .. ',' .. priorities)
  if total == 0 then return end
  local is_leased = is_held(key)
  leave_all_but(nil, key)
  if not is_leased and total == 1 and counts[priority_of(head)] == 1 then return end
  if is_leased then
    redis.call('HSET', KEYS.jobs, key, with_tokens(record, { s = next_seat(head) }))
  else
    put_in_line(key, record)
  end
  for priority, count in pairs(counts) do
    if count > 0 then redis.call('HINCRBY', KEYS.stale, priority, count) end
  end
end

local function fail_unreadable(key, record, priorities)
  local head = head_of(record)
  for priority in string.gmatch(priority_of(head) .. ',' .. priorities, '[^,]+') do
    for _, list in ipairs({ KEYS.waiting .. priority, KEYS.waiting .. priority .. ':front' }) do
      redis.call('LREM', list, 0, own_entry(key, head)) -- no new seat: its record stays as it is
    end
  end
  leave_all_but(nil, key)
  redis.call('HSET', KEYS.outcomes, key, 'f|' .. now_text .. '|||' .. UNREADABLE)
  redis.call('ZADD', KEYS.failed, now, key)
end

local function mend_end(key, state, head)
  local score = redis.call('ZSCORE', zsets[state], key)
  local outcome = redis.call('HGET', KEYS.outcomes, key) or ''
  if string.match(outcome, '^([cfx])|%d+|[^|]*|%d*|') ~= LETTERS[state] then
    keep_aside('o', KEYS.outcomes, key)
    redis.call('HSET', KEYS.outcomes, key, LETTERS[state] .. '|' .. string.format('%d', score) .. '|||')
  end
  local keep = string.match(token(head, 'q') or '', '^%d+$')
  if keep and not redis.call('ZSCORE', kept[state], key) then redis.call('ZADD', kept[state], score + keep, key) end
  if state == 'failed' then
    local name = name_of(redis.call('HGET', KEYS.jobs, key))
    redis.call('ZADD', KEYS.failed_by .. name, score, key)
    count_failed(name)
  end
end

local function mend_indexes(key, head, state, created)
  local hash, mode = string.match(token(head, 'u') or '', '^([^:]*):(.*)$')
  local letter = state == 'cancelled' and 'x' or string.sub(state, 1, 1)
  if hash and mode ~= 't' and string.find(mode, letter, 1, true) then redis.call('HSETNX', KEYS.unique, hash, key) end
  for hash_ in string.gmatch(token(head, 'k') or '', '[^+]+') do
    redis.call('ZADD', KEYS.search .. hash_, 'NX', created, key)
  end
  if token(head, 'k') or token(head, 'b') then redis.call('SADD', KEYS.side, key) end
end

local function mend(key, created)
  local record = redis.call('HGET', KEYS.jobs, key)
  local ghost, lease = redis.call('HGET', KEYS.ghosts, key), redis.call('HGET', KEYS.leases, key)
  if ghost and ghost == lease then
    redis.call('HDEL', KEYS.ghosts, key)
    ghost = false
  elseif ghost and is_watched(ghost) == 0 then
    redis.call('ZADD', KEYS.owners, now + lease_ms, string.match(ghost, '([^|]*)$'))
  end
  if record then
    local state = is_held(key) and 'active' or place_of(key) or 'waiting'
    leave_all_but(state, key)
    if LETTERS[state] then mend_end(key, state, head_of(record)) end
    mend_indexes(key, head_of(record), state, created)
    if redis.call('EXISTS', KEYS.logs .. key, KEYS.runs .. key) > 0 then redis.call('SADD', KEYS.side, key) end
  else
    forget(key)
    lease = false
  end
  local mark = redis.call('HGET', KEYS.marks, key)
  if mark and mark ~= ghost and mark ~= lease then redis.call('HDEL', KEYS.marks, key) end
end

-- Mend the particular fault. Returns false if the job is no longer as the audit saw it.
local function begin(key, fault, seen, priorities)
  local record = redis.call('HGET', KEYS.jobs, key)
  if fault == '' or not record then return true end
  local seat = token(head_of(record), 's') or ''
  local is_placed = redis.call('HEXISTS', KEYS.leases, key) == 1 or place_of(key)
  if fault == 'nowhere' then
    if is_placed or seat ~= seen then return false end
    restore(key, record)
  elseif fault == 'places' then
    if seat ~= seen then return false end
    settle_places(key, record, priorities)
  elseif fault == 'unreadable' then
    if redis.sha1hex(record) ~= seen or redis.call('HEXISTS', KEYS.leases, key) == 1 then return false end
    fail_unreadable(key, record, priorities)
  elseif fault == 'progress' then
    local told = redis.call('HGET', KEYS.progress, key)
    if not told or redis.sha1hex(told) ~= seen then return false end
    keep_aside('pr', KEYS.progress, key)
  end
  return true
end

local missed = {}
for i = items_at, #ARGV, 5 do
  if begin(ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]) then mend(ARGV[i], ARGV[i + 1])
  else missed[#missed + 1] = ARGV[i] end
end
if redis.call('EXISTS', KEYS.levels) == 1 then wake_one() end
return missed
