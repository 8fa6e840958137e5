-- A unique key that's held for a time is freed at once if somebody takes its job back before it runs. Otherwise,
-- whoever enqueues again would be given a job that will never run.
-- KEYS: locks
-- @include lib/record
local function unlock(key, record)
  local hash = string.match(token(head_of(record), 'u') or '', '^([^:]*):t$')
  if hash and redis.call('GET', KEYS.locks .. hash) == key then redis.call('DEL', KEYS.locks .. hash) end
end
