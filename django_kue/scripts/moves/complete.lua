-- active -> completed. An outcome's text is `started|result`; the lease is already dropped.
-- KEYS: jobs outcomes completed
-- @include lib/events
-- @include lib/finish
local function outcome_text(state, worker, text)
  local started, value = string.match(text, '^(%d*)|(.*)$')
  return state .. '|' .. now_text .. '|' .. started .. '|' .. worker .. '|' .. value
end

local function complete(key, record, worker, keep, text, retention)
  finish('completed', key, record, outcome_text('c', worker, text), keep, retention)
  count_up('completed', 1)
  emit('completed', key, record, string.match(text, '|(.*)$'))
end

-- Many plain jobs at once: nothing of theirs needs a look.
local function complete_plain(keys, texts, worker, retention)
  local stored, scored = {}, {}
  for i = 1, #keys do
    stored[2 * i - 1] = keys[i]
    stored[2 * i] = outcome_text('c', worker, texts[i])
    scored[2 * i - 1] = now
    scored[2 * i] = keys[i]
  end
  redis.call('HSET', outcomes, unpack(stored))
  redis.call('ZADD', completed, unpack(scored))
  count_up('completed', #keys)
  if is_heard then
    local records = redis.call('HMGET', jobs, unpack(keys))
    for i = 1, #keys do emit('completed', keys[i], records[i], string.match(texts[i], '|(.*)$')) end
  end
  trim('completed', retention)
end
