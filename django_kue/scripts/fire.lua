-- Fire a schedule's tick: store its job and note the next tick, in one step. So a worker that dies leaves it either
-- fired, with its successor noted, or not fired. A worker that comes second is told what's next now.
-- Returns: what became of it, the key of the job that counts, the next tick as of now ('' for none).
--   fired; o, u, m: no job was made, as in lib/ticked; known: it was fired before, and the clock was set back a little;
--   other: the schedule isn't as it was read, or it isn't due
-- ARGV: name version expected tick coming key record priority expires unique_ms how missed_tick missed_count
--   version: that of the record as it was read; expected: the next tick as it was read; coming: the one after, or ''
--   tick: the one to fire; if none is fired (key is ''), the newest missed one
--   how: n to run it now, between the ticks: `expected` and `coming` are ignored, and the next tick stays
--   missed_tick missed_count: the newest of the missed ticks, and how many there are
-- KEYS: schedules ticks ghosts outcomes jobs
-- @include lib/clock
-- @include lib/admit
-- @include lib/wake
-- @include lib/ticked
local stored = redis.call('HGET', KEYS.schedules, name)
local head = stored and head_of(stored) or ''
local standing = redis.call('ZSCORE', KEYS.ticks, name)
local is_now = how == 'n'
local CORRECTION = 3 * 3600 * 1000 -- ms, as in ticks.py: what was noted later than that was noted by a wrong clock

local function is_as_read()
  if not stored or token(head, 'v') ~= version then return false end
  return is_now or (standing and tonumber(standing) == tonumber(expected) and tonumber(tick) <= now)
end

-- A job is over when it has an outcome or is gone, unless it was removed while it ran.
local function is_running(job)
  if redis.call('HEXISTS', KEYS.ghosts, job) == 1 then return true end
  return redis.call('HEXISTS', KEYS.jobs, job) == 1 and redis.call('HEXISTS', KEYS.outcomes, job) == 0
end

local function is_any_running()
  for _, job in ipairs(ticked_keys(name)) do
    if is_running(job) then return true end
  end
  return false
end

local function was_fired()
  local last = number_of(head, 'l')
  return last >= tonumber(tick) and last <= now + CORRECTION
end

local function what_becomes()
  if key == '' then return 'm' end
  if not is_now and was_fired() then return 'known' end
  if redis.call('HEXISTS', KEYS.jobs, key) == 1 then return 'known' end
  if token(head, 'o') and is_any_running() then return 'o' end
  return holder_for(key, record) and 'u' or ''
end

if not is_as_read() then return { 'other', '', standing or '' } end

local fate, holder = what_becomes(), key
if not is_now then
  if coming == '' then redis.call('ZREM', KEYS.ticks, name) else redis.call('ZADD', KEYS.ticks, coming, name) end
  redis.call('HSET', KEYS.schedules, name, with_tokens(stored, { l = tick }))
end
if missed_count ~= '0' then remember_tick(name, missed_tick, '', 'm', missed_count, '') end
if fate == 'u' then holder = holder_for(key, record) end
if fate ~= 'known' and fate ~= 'm' and not (is_now and fate ~= '') then
  remember_tick(name, tick, fate == '' and key or '', fate, fate == '' and '' or '1', how)
end
if fate == '' then
  admit(key, record, priority, now, expires, unique_ms, 1)
  if not is_paused then wake_one() end
  publish()
end
return { fate == '' and 'fired' or fate, holder, coming }
