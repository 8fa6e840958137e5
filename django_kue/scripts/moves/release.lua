-- active -> waiting, at the front and without using up an attempt: its worker stops or is dead.
-- KEYS: jobs
-- @include lib/waiting
-- @include moves/fail
local function release(keys, records)
  local by_priority = {}
  for i = 1, #keys do
    local head = head_of(records[i])
    local priority = priority_of(head)
    if token(head, 'y') then
      redis.call('HSET', KEYS.jobs, keys[i], with_tokens(records[i], { y = false }))
    end
    by_priority[priority] = by_priority[priority] or {}
    table.insert(by_priority[priority], entry_of(keys[i], head))
  end
  for priority, entries in pairs(by_priority) do push_front(priority, entries) end
end

-- Release jobs that may have killed their worker, or were just beside the culprit: they run again, claimed alone. How
-- often that happens is counted: a job that's always there will run alone, and then it's certain.
local function suspect_all(keys, records)
  if #keys == 0 then return end
  local changed, stored = {}, {}
  for i = 1, #keys do
    local suspicion = number_of(head_of(records[i]), 'z') + 1
    changed[i] = with_tokens(records[i], { z = string.format('%d', suspicion), y = false })
    stored[2 * i - 1], stored[2 * i] = keys[i], changed[i]
  end
  redis.call('HSET', KEYS.jobs, unpack(stored))
  release(keys, changed)
  for i = 1, #keys do emit('stalled', keys[i], changed[i]) end
end

local function suspect(key, record)
  suspect_all({ key }, { record })
end

-- Count a crash: the job's run killed the process. Below the cap it runs again, alone; at the cap it's a poison pill.
-- Returns true if it failed.
local function crash(key, record, worker, max_crashes, text, retention, max_runs)
  local head = head_of(record)
  local crashes = number_of(head, 'c') + 1
  record = with_tokens(record, { c = string.format('%d', crashes), z = '1', y = false })
  redis.call('HSET', KEYS.jobs, key, record)
  if crashes >= max_crashes then
    fail(key, record, worker, '', text, retention, max_runs, 'crashed')
    return true
  end
  local started, error_text = string.match(text, '^(%d*)|(.*)$')
  remember_run(key, head, 'crashed', started, 0, worker, error_text, max_runs)
  release({ key }, { record })
  emit('stalled', key, record, error_text)
  return false
end
