-- Forget jobs: their records and everything attached to them. The caller takes care of places and leases.
-- KEYS: jobs outcomes progress logs runs side unique search bygone
-- @include lib/record
local function release_unique(key, head)
  local claim = token(head, 'u')
  if not claim then return end
  local hash = string.match(claim, '^[^:]*')
  if redis.call('HGET', KEYS.unique, hash) == key then redis.call('HDEL', KEYS.unique, hash) end
end

local REMEMBERED = 600 -- seconds that a job which came by an outbox leaves its id behind

local function erase_side(key)
  local head = head_of(redis.call('HGET', KEYS.jobs, key) or '')
  for hash in string.gmatch(token(head, 'k') or '', '[^+]+') do redis.call('ZREM', KEYS.search .. hash, key) end
  redis.call('DEL', KEYS.logs .. key, KEYS.runs .. key)
  redis.call('SREM', KEYS.side, key)
  if token(head, 'b') then redis.call('SET', KEYS.bygone .. key, '', 'EX', REMEMBERED) end
end

local function erase(keys)
  if #keys == 0 then return end
  if redis.call('EXISTS', KEYS.side) == 1 then
    local has_side = redis.call('SMISMEMBER', KEYS.side, unpack(keys))
    for i = 1, #keys do
      if has_side[i] == 1 then erase_side(keys[i]) end
    end
  end
  if redis.call('EXISTS', KEYS.unique) == 1 then
    local records = redis.call('HMGET', KEYS.jobs, unpack(keys))
    for i = 1, #keys do
      if records[i] then release_unique(keys[i], head_of(records[i])) end
    end
  end
  redis.call('HDEL', KEYS.outcomes, unpack(keys))
  if redis.call('EXISTS', KEYS.progress) == 1 then redis.call('HDEL', KEYS.progress, unpack(keys)) end
  redis.call('HDEL', KEYS.jobs, unpack(keys))
end
