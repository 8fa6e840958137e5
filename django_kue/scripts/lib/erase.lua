-- Forget jobs: their records and all that hangs on them. Places and leases are the caller's.
-- KEYS: jobs outcomes progress logs runs side unique search bygone
-- @include lib/record
local function release_unique(key, head)
  local claim = token(head, 'u')
  if not claim then return end
  local hash = string.match(claim, '^[^:]*')
  if redis.call('HGET', unique, hash) == key then redis.call('HDEL', unique, hash) end
end

local REMEMBERED = 600 -- seconds that a job which came by an outbox leaves its id behind

local function erase_side(key)
  local head = head_of(redis.call('HGET', jobs, key) or '')
  for hash in string.gmatch(token(head, 'k') or '', '[^+]+') do redis.call('ZREM', search .. hash, key) end
  redis.call('DEL', logs .. key, runs .. key)
  redis.call('SREM', side, key)
  if token(head, 'b') then redis.call('SET', bygone .. key, '', 'EX', REMEMBERED) end
end

local function erase(keys)
  if #keys == 0 then return end
  if redis.call('EXISTS', side) == 1 then
    local has_side = redis.call('SMISMEMBER', side, unpack(keys))
    for i = 1, #keys do
      if has_side[i] == 1 then erase_side(keys[i]) end
    end
  end
  if redis.call('EXISTS', unique) == 1 then
    local records = redis.call('HMGET', jobs, unpack(keys))
    for i = 1, #keys do
      if records[i] then release_unique(keys[i], head_of(records[i])) end
    end
  end
  redis.call('HDEL', outcomes, unpack(keys))
  if redis.call('EXISTS', progress) == 1 then redis.call('HDEL', progress, unpack(keys)) end
  redis.call('HDEL', jobs, unpack(keys))
end
