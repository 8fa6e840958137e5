-- The end of a job: its outcome is stored, its unique key let go, and its state's shelf trimmed.
-- Retention is `state=count:ms` for completed, failed and cancelled; a job with a `keep` of its own has its
-- own time, and doesn't count towards the queue's number.
-- KEYS: jobs outcomes farewells completed failed cancelled kept_completed kept_failed kept_cancelled
-- KEYS: failed_by failing flags totals stats
-- @include lib/clock
-- @include lib/sums
-- @include lib/erase
-- @include lib/ticked
local shelves = { completed = KEYS.completed, failed = KEYS.failed, cancelled = KEYS.cancelled }
local kept = { completed = KEYS.kept_completed, failed = KEYS.kept_failed, cancelled = KEYS.kept_cancelled }
local SLACK = 256 -- trims are done in batches of about so many
local FAREWELL = 512 -- bytes of an outcome that's remembered of a job that isn't kept

-- Failed jobs are listed by function, too. A name may hold any bytes; it's the end of the key, so no two names
-- share one. This adds no cost to completing.
local function count_failed(name)
  local count = redis.call('ZCARD', KEYS.failed_by .. name)
  if count > 0 then redis.call('ZADD', KEYS.failing, count, name) else redis.call('ZREM', KEYS.failing, name) end
end

local function unlist(name, keys)
  redis.call('ZREM', KEYS.failed_by .. name, unpack(keys))
  count_failed(name)
end

-- This comes before their records go, since these have the name. A job whose record was evicted is looked for under
-- the names with the most failed jobs.
local function unlist_failed(keys)
  local records, by_name, nameless = redis.call('HMGET', KEYS.jobs, unpack(keys)), {}, {}
  for i = 1, #keys do
    local group = nameless
    if records[i] then
      local name = name_of(records[i])
      by_name[name] = by_name[name] or {}
      group = by_name[name]
    end
    group[#group + 1] = keys[i]
  end
  for name, group in pairs(by_name) do unlist(name, group) end
  if #nameless > 0 then
    for _, name in ipairs(redis.call('ZREVRANGE', KEYS.failing, 0, 99)) do unlist(name, nameless) end
  end
end

-- Take finished jobs out of their state; their records must still be there.
local function take_off(state, keys)
  redis.call('ZREM', shelves[state], unpack(keys))
  redis.call('ZREM', kept[state], unpack(keys))
  if state == 'failed' then unlist_failed(keys) end
end

-- Remove up to `most` of the oldest jobs without a keep of their own, among those that finished before `before`
-- (ms; nil: among all). A cursor remembers the score below which only jobs with their own keep are left.
local function trim_oldest(state, most, before)
  local cursor = redis.call('HGET', KEYS.flags, 'trim:' .. state) or '-inf'
  if before and cursor ~= '-inf' and tonumber(cursor) >= before then return end
  -- what finished in the cursor's own millisecond may be seen once more
  local seen = cursor == '-inf' and 0 or redis.call('ZCOUNT', shelves[state], cursor, cursor)
  local oldest = redis.call('ZRANGEBYSCORE', shelves[state], cursor,
    before and string.format('(%d', before) or '+inf', 'LIMIT', 0, most + SLACK + seen)
  if #oldest == 0 then
    if cursor ~= '-inf' and not before then redis.call('HDEL', KEYS.flags, 'trim:' .. state) end
    return
  end
  local own = redis.call('ZMSCORE', kept[state], unpack(oldest))
  local gone, skipped = {}, false
  for i = 1, #oldest do
    if own[i] then skipped = true elseif #gone < most then gone[#gone + 1] = oldest[i] end
  end
  if skipped and #gone < most then
    redis.call('HSET', KEYS.flags, 'trim:' .. state, redis.call('ZSCORE', shelves[state], oldest[#oldest]))
  end
  if #gone > 0 then
    redis.call('ZREM', shelves[state], unpack(gone))
    if state == 'failed' then unlist_failed(gone) end
    erase(gone)
  end
end

-- The same if no job has a keep of its own: the very oldest go.
local function trim_first(state, most)
  local gone = redis.call('ZRANGE', shelves[state], 0, most - 1)
  redis.call('ZREMRANGEBYRANK', shelves[state], 0, most - 1)
  if state == 'failed' then unlist_failed(gone) end
  erase(gone)
end

local function limits(retention, state)
  local count, age = string.match(retention, state .. '=(%d+):(%d*)')
  return tonumber(count), tonumber(age)
end

local function keeps_none(state, retention) return limits(retention, state) == 0 end

-- Keep a small outcome for a moment when its job is forgotten at once: whoever enqueued the job may be about to wait
-- for it.
local function bid_farewell(key, outcome)
  if #outcome <= FAREWELL then redis.call('SET', KEYS.farewells .. key, outcome, 'EX', '10') end
end

local function trim(state, retention)
  local count = limits(retention, state)
  if not count then return end
  local own = redis.call('ZCARD', kept[state])
  local over = redis.call('ZCARD', shelves[state]) - own - count
  -- a small shelf is kept exactly, a large one within its slack
  if over <= math.min(SLACK, math.floor(count / 4)) then return end
  if own == 0 then trim_first(state, math.min(over, 1000)) else trim_oldest(state, math.min(over, 1000)) end
end

-- If none are kept, remove older ones bit by bit.
local function trim_rest(state, retention)
  if redis.call('EXISTS', shelves[state]) == 1 then trim(state, retention) end
end

local function trim_kept(state, most)
  local over = redis.call('ZRANGEBYSCORE', kept[state], '-inf', now_text, 'LIMIT', 0, most)
  if #over == 0 then return end
  take_off(state, over)
  erase(over)
end

-- Trim by age, and jobs whose own keep is over; bounded, and called with each sweep.
local function trim_old(retention)
  for state in pairs(shelves) do
    trim_kept(state, SLACK)
    local _, age = limits(retention, state)
    if age then trim_oldest(state, SLACK, now - age) end
  end
end

local function count_up(state, count)
  local text = string.format('%d', count)
  add_up(KEYS.totals, state, text)
  local minute = math.floor(now / 60000)
  local hour = KEYS.stats .. string.format('%d', math.floor(minute / 60))
  local field = string.sub(state, 1, 2) .. string.format('%d', minute)
  if add_up(hour, field, text) == count then redis.call('EXPIRE', hour, '90000') end
end

-- `keep` is ms, or '' for what the record says, or else the queue's retention; '0' forgets the job at once.
local function finish(state, key, record, outcome, keep, retention)
  local head = head_of(record)
  local schedule, claim = token(head, 't'), token(head, 'u')
  if schedule then note_end_of_tick(schedule, key, state == 'cancelled' and 'x' or string.sub(state, 1, 1)) end
  if claim then
    local mode = string.match(claim, ':(.*)$') or ''
    local letter = state == 'cancelled' and 'x' or string.sub(state, 1, 1)
    if mode ~= 't' and not string.find(mode, letter, 1, true) then release_unique(key, head) end
  end
  if keep == '' then keep = string.match(token(head, 'q') or '', '^%d+$') or '' end
  if keep == '0' or (keep == '' and keeps_none(state, retention)) then
    bid_farewell(key, outcome)
    erase({ key })
    if keeps_none(state, retention) then trim_rest(state, retention) end
    return
  end
  redis.call('HSET', KEYS.outcomes, key, outcome)
  redis.call('ZADD', shelves[state], now_text, key)
  if state == 'failed' then
    redis.call('ZADD', KEYS.failed_by .. name_of(record), now_text, key)
    count_failed(name_of(record))
  end
  if keep ~= '' then
    redis.call('ZADD', kept[state], now + keep, key)
    trim_kept(state, 2) -- one comes, up to two go: they can't pile up
  end
  trim(state, retention)
end
