-- What people ask for: one verb for many keys. Each is decided on its own.
-- Returns for each key `ok:<state before>:<ms now>`, the state that forbids it, `held` (another job holds
-- the unique key), or '' when there's no such job.
-- ARGV: verb argument retention legal_states keys...
-- KEYS: jobs
-- @include lib/place
-- @include lib/unlock
-- @include lib/wake
-- @include moves/promote
-- @include moves/cancel
-- @include moves/requeue
-- @include moves/remove
local should_wake = false
local verbs = {}

function verbs.promote(key, state, record)
  redis.call('HSET', KEYS.jobs, key, with_tokens(record, { d = now_text }))
  promote({ key })
  should_wake = true
end

local function take_back(key, state, record)
  if state == 'waiting' or state == 'delayed' then unlock(key, record) end
end

function verbs.cancel(key, state, record)
  take_back(key, state, record)
  cancel(key, state, record, retention)
end

function verbs.requeue(key, state, record)
  local claim = token(head_of(record), 'u')
  if claim and holder_of(claim, key) then return 'held' end
  requeue(key, state, record)
  should_wake = true
end

function verbs.remove(key, state, record)
  take_back(key, state, record)
  remove(key, state, record)
end

function verbs.set_priority(key, state, record)
  local head = head_of(record)
  local changes = { p = argument ~= '0' and argument }
  if state ~= 'waiting' then
    redis.call('HSET', KEYS.jobs, key, with_tokens(record, changes))
    return
  end
  changes.s = next_seat(head)
  record = with_tokens(record, changes)
  redis.call('HSET', KEYS.jobs, key, record)
  leave_waiting(priority_of(head))
  push_back(argument, { entry_of(key, head_of(record)) })
end

redis.call('HDEL', KEYS.jobs, '') -- a first write that is never refused for want of memory
local answers = {}
for i = keys_at, #ARGV do
  local key = ARGV[i]
  local state = state_of(key)
  local answer
  if not state then answer = ''
  elseif not string.find(legal_states, state, 1, true) then answer = state
  else
    answer = verbs[verb](key, state, redis.call('HGET', KEYS.jobs, key)) or 'ok:' .. state .. ':' .. now_text
  end
  answers[#answers + 1] = answer
end
if should_wake and not is_paused then wake_one() end
publish()
return answers
