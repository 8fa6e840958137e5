-- (nothing) -> waiting | delayed: one new job that takes a decision.
-- Returns the key that holds: its own, or that of the job which has its unique key.
-- KEYS: jobs delayed side search
-- @include lib/events
-- @include lib/waiting
-- @include lib/unique
local function holder_for(key, record)
  local claim = token(head_of(record), 'u')
  return claim and holder_of(claim, key)
end

-- `due` and `expires` (ms after it, or '') are numbers of ms; `order` sorts the jobs of one call.
-- Returns whether it's delayed.
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
