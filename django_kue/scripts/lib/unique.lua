-- Unique keys are held while a job is in certain states (in a hash), or for a time (in a string that Redis expires).
-- KEYS: jobs unique locks
-- @include lib/place
-- The key of the job that holds this claim (`hash:mode`), if it's not `key` itself.
local function holder_of(claim, key)
  local hash, mode = string.match(claim, '^([^:]*):(.*)$')
  if not hash then return nil end
  local holder
  if mode == 't' then
    holder = redis.call('GET', KEYS.locks .. hash)
  else
    holder = redis.call('HGET', KEYS.unique, hash)
    if holder and holder ~= key then
      local state = state_of(holder)
      local letter = state == 'cancelled' and 'x' or state and string.sub(state, 1, 1)
      local record = redis.call('HGET', KEYS.jobs, holder)
      local held = record and string.match(token(head_of(record), 'u') or '', ':(.*)$')
      if not state or not held or not string.find(held, letter, 1, true) then return nil end
    end
  end
  if holder and holder ~= key then return holder end
end

local function hold(claim, key, ms)
  local hash, mode = string.match(claim, '^([^:]*):(.*)$')
  if not hash then return end
  if mode == 't' then
    if ms and ms > 0 then redis.call('SET', KEYS.locks .. hash, key, 'PX', ms) end
  else
    redis.call('HSET', KEYS.unique, hash, key)
  end
end
