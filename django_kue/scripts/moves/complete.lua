-- active -> completed. An outcome's text is `started|result`; the lease is already dropped.
-- It's stored as `state|finished|worker|started|result`.
-- KEYS: jobs outcomes completed
-- @include lib/events
-- @include lib/finish
local function outcome_text(state, worker, text)
  return state .. '|' .. now_text .. '|' .. worker .. '|' .. text
end

local function complete(key, record, worker, keep, text, retention)
  finish('completed', key, record, outcome_text('c', worker, text), keep, retention)
  count_up('completed', 1)
  emit('completed', key, record, string.match(text, '|(.*)$'))
end

-- Complete many plain jobs at once: their records needn't be looked at.
local function complete_plain(keys, texts, worker, retention)
  local is_kept = not keeps_none('completed', retention)
  local stored, scored, prefix = {}, {}, outcome_text('c', worker, '')
  for i = 1, #keys do
    local key, at = keys[i], 2 * i
    stored[at - 1], stored[at] = key, prefix .. texts[i]
    scored[at - 1], scored[at] = now_text, key
    if not is_kept then bid_farewell(key, stored[at]) end
  end
  if is_kept then
    redis.call('HSET', KEYS.outcomes, unpack(stored))
    redis.call('ZADD', KEYS.completed, unpack(scored))
  end
  count_up('completed', #keys)
  if is_heard then
    local records = redis.call('HMGET', KEYS.jobs, unpack(keys))
    for i = 1, #keys do emit('completed', keys[i], records[i], string.match(texts[i], '|(.*)$')) end
  end
  if is_kept then
    trim('completed', retention)
  else
    erase(keys)
    trim_rest('completed', retention)
  end
end
