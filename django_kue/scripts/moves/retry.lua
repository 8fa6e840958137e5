-- active -> waiting | delayed: a run ended badly, and there are attempts left.
-- The job joins the back of its priority; with a delay it waits for its time first.
-- KEYS: jobs delayed runs side totals
-- @include lib/events
-- @include lib/sums
-- @include lib/waiting
-- Remember a run that didn't complete: `attempt|outcome|started|finished|delay|worker|error`.
local function remember_run(key, head, outcome, started, delay, worker, error_text, max_runs)
  if max_runs == '0' then return end
  redis.call('RPUSH', KEYS.runs .. key, string.format('%d', number_of(head, 'm') + 1) .. '|' ..
    outcome .. '|' .. started .. '|' .. now_text .. '|' .. delay .. '|' .. worker .. '|' .. error_text)
  redis.call('LTRIM', KEYS.runs .. key, -max_runs, -1)
  redis.call('SADD', KEYS.side, key)
end

-- Remember a run that was cut off: `stopped` or `stalled`. Several in a row become one, which has their number where
-- others have their delay. It keeps the error of the previous run, which is the job's until it runs again.
local function remember_cut_off(key, head, word, started, worker, max_runs)
  local times, error_text = 1, ''
  local newest = redis.call('LINDEX', KEYS.runs .. key, -1)
  if newest then
    local attempt, before, count, text = string.match(newest, '^(%d+)|(%a+)|%d*|%d+|(%d+)|[^|]*|(.*)$')
    error_text = text or ''
    if before == word and tonumber(attempt) == number_of(head, 'm') + 1 then
      times = count + 1
      redis.call('LTRIM', KEYS.runs .. key, 0, -2)
    end
  end
  remember_run(key, head, word, started, times, worker, error_text, max_runs)
end

local function retry(key, record, worker, delay, text, max_runs)
  local head = head_of(record)
  local started, error_text = string.match(text, '^(%d*)|(.*)$')
  remember_run(key, head, 'retried', started, delay, worker, error_text, max_runs)
  local due = now + tonumber(delay)
  record = with_tokens(record, {
    m = string.format('%d', number_of(head, 'm') + 1),
    d = string.format('%d', due),
    y = false, z = false, n = false,
  })
  redis.call('HSET', KEYS.jobs, key, record)
  if tonumber(delay) > 0 then
    redis.call('ZADD', KEYS.delayed, due, key)
  else
    push_back(priority_of(head), { entry_of(key, head) })
  end
  emit('retrying', key, record, cjson.encode({ delay = tonumber(delay) / 1000, error = error_text }))
end

-- Put a job aside for a while, because a worker can't run it; no attempt is used up.
-- How often that happened is counted: the next while depends on it.
local function park(key, record, delay)
  local due = now + tonumber(delay)
  redis.call('HSET', KEYS.jobs, key, with_tokens(record, {
    n = string.format('%d', number_of(head_of(record), 'n') + 1),
    d = string.format('%d', due),
    y = false,
  }))
  redis.call('ZADD', KEYS.delayed, due, key)
  add_up(KEYS.totals, 'parked', '1')
end
