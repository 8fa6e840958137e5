-- Jobs of dead owners go back to the front of their priority. None is blamed: they're suspects, to be claimed
-- alone; but for a suspect that had been started when its owner died, a crash is counted.
-- Supervisors call this every 0.4 leases. If none did for two thirds of a lease (and a moment, since a busy one may
-- be late), or none ever did, Redis was away, and heartbeats that were due couldn't come either: then living owners
-- first get time to report.
-- A call takes back up to MOST jobs; owners that may have more stay in `owners` as `dead|<owner>`, with the time
-- of their death: a heartbeat doesn't revive them, and what they claim after that isn't taken.
-- KEYS: jobs leases ghosts marks owners flags
-- @include lib/clock
-- @include lib/order
-- @include lib/settle
local CRASHED = '{"type":"django_kue.errors.JobCrashed","message":"the worker that ran it died"}'
local MOST = 1000

local function claimed_at(lease) return tonumber(string.match(lease, '|(%d+)|') or '') or 0 end

local function sequence_of(lease) return tonumber(string.match(lease, '^%d+') or '') or 0 end

-- Take up to MOST keys out of a hash whose leases belong to the dead, newest claims first. Returns the keys and their
-- leases. `died` is owner -> when.
local function take_held(hash, died)
  if redis.call('HLEN', hash) == 0 then return {}, {} end
  local held, by_lease, order = redis.call('HGETALL', hash), {}, {}
  for i = 1, #held, 2 do
    local lease = held[i + 1]
    if by_lease[lease] == nil then -- a claim's jobs share one: it's looked at once
      local death = died[string.match(lease, '([^|]*)$')]
      by_lease[lease] = death ~= nil and claimed_at(lease) <= death and {}
      if by_lease[lease] then order[#order + 1] = lease end
    end
    if by_lease[lease] then table.insert(by_lease[lease], held[i]) end
  end
  table.sort(order, function(one, other)
    local a, b = claimed_at(one), claimed_at(other)
    if a == b then return sequence_of(one) > sequence_of(other) end
    return a > b
  end)
  local keys, lease_of = {}, {}
  for _, lease in ipairs(order) do
    for _, key in ipairs(by_lease[lease]) do
      if #keys == MOST then break end
      keys[#keys + 1] = key
      lease_of[key] = lease
    end
  end
  if #keys > 0 then redis.call('HDEL', hash, unpack(keys)) end
  return keys, lease_of
end

-- Returns the keys that went back, newest first, and whether there may be more.
local function take_back(died, retention, max_runs, max_crashes)
  local removed = take_held(KEYS.ghosts, died)
  if #removed > 0 then redis.call('HDEL', KEYS.marks, unpack(removed)) end
  local found, lease_of = take_held(KEYS.leases, died)
  if #found == 0 then return {}, #removed == MOST end
  table.sort(found, function(one, other) return is_older(other, one) end)
  local records, marked = redis.call('HMGET', KEYS.jobs, unpack(found)), redis.call('HMGET', KEYS.marks, unpack(found))
  redis.call('HDEL', KEYS.marks, unpack(found))
  local rescued, suspects, texts = {}, {}, {}
  -- What's pushed to the front last is first there, so the newest go first.
  local function put_back_suspects()
    local oldest_first, theirs = {}, {}
    for i = #suspects, 1, -1 do
      oldest_first[#oldest_first + 1], theirs[#theirs + 1] = suspects[i], texts[i]
    end
    suspect_all(oldest_first, theirs)
    suspects, texts = {}, {}
  end
  for i = 1, #found do
    local key, record = found[i], records[i]
    local lease = lease_of[key]
    local worker = worker_of(lease)
    local function remember()
      local since = string.format('%d', claimed_at(lease))
      remember_cut_off(key, head_of(record), 'stalled', since, worker, max_runs)
    end
    if record and marked[i] then
      remember()
      end_cancelled(key, record, worker, '|', retention)
    elseif record then
      rescued[#rescued + 1] = key
      if token(head_of(record), 'y') then
        put_back_suspects()
        if crash(key, record, worker, max_crashes, '|' .. CRASHED, retention, max_runs) then
          failed_[#failed_ + 1] = key
        end
      else
        remember()
        suspects[#suspects + 1], texts[#texts + 1] = key, record
      end
    end
  end
  put_back_suspects()
  return rescued, #found == MOST or #removed == MOST
end

-- Take the dead out of `owners`. Returns owner -> when it died, or nil if all are alive.
local function take_dead()
  local lapsed = redis.call('ZRANGEBYSCORE', KEYS.owners, '-inf', now_text, 'WITHSCORES')
  if #lapsed == 0 then return nil end
  local died = {}
  for i = 1, #lapsed, 2 do
    redis.call('ZREM', KEYS.owners, lapsed[i])
    local earlier = string.match(lapsed[i], '^dead|(.*)$')
    local owner = earlier or lapsed[i]
    died[owner] = math.max(died[owner] or 0, earlier and tonumber(lapsed[i + 1]) or now)
  end
  return died
end

-- Don't count the time since the last sweep: what was left of a lease then is left of it now, but at least half a
-- lease, so that owners which have to reconnect can send a heartbeat.
local function give_amnesty(last, lease_ms)
  local held = redis.call('ZRANGE', KEYS.owners, 0, -1, 'WITHSCORES')
  for i = 1, #held, 2 do
    if not string.find(held[i], '^dead|') then
      local left = math.min(math.max(held[i + 1] - last, lease_ms / 2), lease_ms)
      redis.call('ZADD', KEYS.owners, string.format('%d', now + left), held[i])
    end
  end
end

-- Redis's clock was set back: make sure that no lease has more than its full length left.
local function shorten(lease_ms)
  for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEYS.owners, string.format('(%d', now + lease_ms), '+inf')) do
    redis.call('ZADD', KEYS.owners, string.format('%d', now + lease_ms), owner)
  end
end

-- Returns the keys that were taken back, and true if there's no trace of an earlier sweep.
local function rescue(lease_ms, retention, max_runs, max_crashes)
  local last = tonumber(redis.call('HGET', KEYS.flags, 'pulse') or '')
  redis.call('HSET', KEYS.flags, 'pulse', now_text)
  if last and last > now then shorten(lease_ms) end
  if not last or now - last > lease_ms * 2 / 3 + 250 then
    give_amnesty(last or now, lease_ms)
    return {}, not last
  end
  local died = take_dead()
  if not died then return {} end
  local rescued, has_more = take_back(died, retention, max_runs, max_crashes)
  if has_more then
    for owner, at in pairs(died) do redis.call('ZADD', KEYS.owners, string.format('%d', at), 'dead|' .. owner) end
  end
  return rescued
end
