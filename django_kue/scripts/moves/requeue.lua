-- failed | completed | cancelled -> waiting, with fresh attempts, at the back of its priority.
-- KEYS: jobs outcomes progress
-- @include lib/events
-- @include lib/finish
-- @include lib/waiting
-- @include lib/unique
local function requeue(key, state, record)
  take_off(state, { key })
  redis.call('HDEL', KEYS.outcomes, key)
  redis.call('HDEL', KEYS.progress, key)
  record = with_tokens(record, { m = false, c = false, z = false, y = false, n = false, e = false, d = now_text })
  redis.call('HSET', KEYS.jobs, key, record)
  local head = head_of(record)
  local claim = token(head, 'u')
  if claim then hold(claim, key) end
  push_back(priority_of(head), { entry_of(key, head) })
  emit('enqueued', key, record)
end
