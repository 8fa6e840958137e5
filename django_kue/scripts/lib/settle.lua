-- Outcomes of runs, each accepted only while the job's lease is the one it was claimed under.
-- An outcome's first byte says what to do:
--   c started|result           complete, nothing else to do
--   C keep|started|result      complete, after looking at the record (keep is '' or ms)
--   r delay|started|error      retry after so many ms
--   f keep|started|error       fail
--   x started|                 cancelled: the run ended because it was asked to
--   b                          release: it was never started
--   l word|started|            release: it was running, and ended through no fault of its own; remembered as this word
--   z started|                 release as a suspect: it was one of several running when their process died
--   k delay                    park: this worker can't run it
--   d started|error            its run killed the process
-- KEYS: jobs leases ghosts marks
-- @include lib/events
-- @include moves/complete
-- @include moves/retry
-- @include moves/fail
-- @include moves/cancel
-- @include moves/release
local function worker_of(lease)
  return string.match(lease, '^[^|]*|[^|]*|([^| ]*)') or ''
end

local failed_ = {} -- keys of the jobs that failed, for who has to tell of them

-- Settle one outcome of any kind but c and b. Not called if the job's record is gone: then only its lease is dropped.
local function settle_one(key, outcome, record, worker, retention, max_runs, max_crashes)
  local kind, text = string.sub(outcome, 1, 1), string.sub(outcome, 2)
  if kind == 'r' then
    local delay, rest = string.match(text, '^(%d+)|(.*)$')
    retry(key, record, worker, delay, rest, max_runs)
  elseif kind == 'k' then park(key, record, text)
  elseif kind == 'x' then end_cancelled(key, record, worker, text, retention, true)
  elseif kind == 'l' then
    local word, started = string.match(text, '^(%a+)|(%d*)')
    remember_cut_off(key, head_of(record), word, started, worker, max_runs)
    release({ key }, { record })
  elseif kind == 'z' then
    remember_cut_off(key, head_of(record), 'stalled', string.match(text, '^%d*'), worker, max_runs)
    suspect(key, record)
  elseif kind == 'd' then
    if crash(key, record, worker, max_crashes, text, retention, max_runs) then failed_[#failed_ + 1] = key end
  else
    local keep, rest = string.match(text, '^(%d*)|(.*)$')
    if kind == 'C' then complete(key, record, worker, keep, rest, retention)
    else
      fail(key, record, worker, keep, rest, retention, max_runs)
      failed_[#failed_ + 1] = key
    end
  end
end

-- Drop ghosts: the runs of removed jobs have ended. Only under the same lease, as a stale worker knows nothing about
-- another worker's run.
local function drop_ghosts(lease, keys)
  if redis.call('EXISTS', KEYS.ghosts) == 0 then return end
  local held = redis.call('HMGET', KEYS.ghosts, unpack(keys))
  for i = 1, #keys do
    if held[i] == lease then
      redis.call('HDEL', KEYS.ghosts, keys[i])
      redis.call('HDEL', KEYS.marks, keys[i])
    end
  end
end

local has_refilled = false -- whether jobs went back to where others can take them

-- Whether all these jobs are under the lease, and there are no marks at all.
local function are_all_held(lease, keys)
  local held = redis.call('HMGET', KEYS.leases, unpack(keys))
  for i = 1, #keys do
    if held[i] ~= lease then return false end
  end
  return redis.call('EXISTS', KEYS.marks) == 0
end

-- Settle jobs that completed with nothing else to do, which most are. Returns true, or false if it did nothing.
local function settle_plain(lease, keys, texts, retention)
  redis.call('HDEL', KEYS.leases, lease) -- no such field: a first write that is never refused for want of memory
  if not are_all_held(lease, keys) then return false end
  redis.call('HDEL', KEYS.leases, unpack(keys))
  complete_plain(keys, texts, worker_of(lease), retention)
  return true
end

-- Returns the keys whose outcome was refused, those that were cancelled by their mark, and how many of the accepted
-- ones had never been started.
local function settle(lease, keys, outcomes_, retention, max_runs, max_crashes)
  local held = redis.call('HMGET', KEYS.leases, unpack(keys))
  redis.call('HDEL', KEYS.leases, lease) -- no such field: a first write that is never refused for want of memory
  local has_marks = redis.call('EXISTS', KEYS.marks) == 1
  local marked = has_marks and redis.call('HMGET', KEYS.marks, unpack(keys)) or {}
  local accepted, refused, cancelled_, has_run = {}, {}, {}, {}
  local plain, texts, released, slow, to_front = {}, {}, {}, {}, {}
  local unstarted = 0
  for i = 1, #keys do
    local key, outcome = keys[i], outcomes_[i]
    if held[i] ~= lease then
      refused[#refused + 1] = key
    else
      accepted[#accepted + 1] = key
      local kind = string.byte(outcome)
      if kind == 98 or kind == 107 then unstarted = unstarted + 1 end -- b k
      if marked[i] then
        cancelled_[#cancelled_ + 1] = key
        has_run[key] = kind ~= 98 -- b
      elseif kind == 99 then -- c
        plain[#plain + 1], texts[#texts + 1] = key, string.sub(outcome, 2)
      elseif kind == 98 then -- b
        released[#released + 1] = key
      elseif kind == 122 or kind == 108 or kind == 100 then -- z l d
        to_front[#to_front + 1] = i
      else
        slow[#slow + 1] = i
        if string.sub(outcome, 1, 3) == 'r0|' then has_refilled = true end
      end
    end
  end
  if #accepted > 0 then
    redis.call('HDEL', KEYS.leases, unpack(accepted))
    if has_marks then redis.call('HDEL', KEYS.marks, unpack(accepted)) end
  end
  if #refused > 0 then drop_ghosts(lease, refused) end
  local worker = worker_of(lease)
  if #plain > 0 then complete_plain(plain, texts, worker, retention) end
  if #released > 0 then
    local found, records = {}, {}
    local values = redis.call('HMGET', KEYS.jobs, unpack(released))
    for i = 1, #released do
      if values[i] then found[#found + 1], records[#records + 1] = released[i], values[i] end
    end
    if #found > 0 then release(found, records) end
  end
  local function settle_at(i)
    local record = redis.call('HGET', KEYS.jobs, keys[i])
    if record then settle_one(keys[i], outcomes_[i], record, worker, retention, max_runs, max_crashes) end
  end
  for _, i in ipairs(slow) do settle_at(i) end
  for j = #to_front, 1, -1 do settle_at(to_front[j]) end -- the last that's put to the front is the first there
  has_refilled = has_refilled or #released + #to_front > 0
  for _, key in ipairs(cancelled_) do
    local record = redis.call('HGET', KEYS.jobs, key)
    if record then end_cancelled(key, record, worker, '|', retention, has_run[key]) end
  end
  return refused, cancelled_, unstarted
end
