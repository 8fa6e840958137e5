-- (nothing) -> waiting | delayed: one new job that needs decisions.
-- KEYS: jobs delayed side search
-- @include lib/events
-- @include lib/waiting
-- @include lib/unique
-- The key of the other job that holds this one's unique key, if there is one.
local function holder_for(key, record)
  local claim = token(head_of(record), 'u')
  return claim and holder_of(claim, key)
end

-- `due` is in ms, and so is `expires` (counted from `due`, or ''); `order` sorts the jobs of one call.
-- Returns whether the job is delayed.
local function admit(key, record, priority, due, expires, unique_ms, order)
  local head, tokens = head_of(record), {}
  local claim, hashes = token(head, 'u'), token(head, 'k')
  if due > now then tokens.d = string.format('%d', due) end
  if expires ~= '' then tokens.e = string.format('%d', math.max(due, now) + tonumber(expires)) end
  record = with_tokens(record, tokens)
  if claim then hold(claim, key, tonumber(unique_ms)) end
  if hashes then
    local made = now + order / 1024 -- jobs of one call keep their order
    for hash in string.gmatch(hashes, '[^+]+') do redis.call('ZADD', KEYS.search .. hash, made, key) end
  end
  if hashes or token(head, 'b') then redis.call('SADD', KEYS.side, key) end
  if due > now then
    redis.call('ZADD', KEYS.delayed, due, key)
  else
    push_back(priority, { key })
  end
  redis.call('HSET', KEYS.jobs, key, record) -- last: a job that foreign data keep out mustn't be known
  emit('enqueued', key, record, due > now and 'd' or nil)
  return due > now
end
