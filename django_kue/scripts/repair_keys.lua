-- Put wrong keys of a queue right, if they still are wrong. `name` is what follows the common prefix of its keys.
-- Returns how many were put right.
-- ARGV: items...
--   items: what name extra value, repeated
--   what: `type` (extra: its type, which is wrong): the key is put aside; `forever` (extra: ms): it gets an expiry;
--         `field` (extra: field, value: its value): the field is put aside; `member` (extra: member): it's dropped;
--         `lists`: deletes logs and runs of a job that's gone, or last ticks of a schedule that's gone; if a job is
--         still there, notes that they need cleaning up;
--         `tick` (extra: a schedule): unless it has a next tick, that's now;
--         `owner` (extra: owner, value: ms): its lease ends after that time
-- KEYS: jobs side schedules quarantined
-- @include lib/clock
-- @include lib/quarantine
local beginning, done, by = string.sub(KEYS.jobs, 1, -2), 0, {}

function by.type(key, name, kind)
  if redis.call('TYPE', key).ok ~= kind then return false end
  redis.call('RENAME', key, KEYS.quarantined .. name .. ':' .. now_text)
  return true
end

function by.forever(key, _, ms)
  if redis.call('PTTL', key) ~= -1 then return false end
  redis.call('PEXPIRE', key, ms)
  return true
end

function by.field(key, name, field, value)
  if redis.call('HGET', key, field) ~= value then return false end
  keep_aside(name, key, field)
  if name == 'h' and field == 'paused' then redis.call('HSET', key, 'paused', now_text) end -- what's paused stays so
  return true
end

function by.member(key, _, member)
  return redis.call('ZREM', key, member) == 1
end

function by.tick(key, _, name)
  local standing = redis.call('ZSCORE', key, name)
  if standing and standing ~= 'inf' and standing ~= '-inf' then return false end
  if redis.call('HEXISTS', KEYS.schedules, name) == 0 then return false end
  redis.call('ZADD', key, now, name)
  return true
end

function by.lists(key, name)
  local schedule = string.match(name, '^sr:(.*)$')
  if schedule then
    if redis.call('HEXISTS', KEYS.schedules, schedule) == 0 then redis.call('DEL', key) end
    return true
  end
  local owner = string.sub(name, 3)
  if redis.call('HEXISTS', KEYS.jobs, owner) == 1 then
    redis.call('SADD', KEYS.side, owner)
  else
    redis.call('DEL', key)
  end
  return true
end

function by.owner(key, _, owner, ms)
  redis.call('ZADD', key, 'XX', now + ms, owner)
  return true
end

for i = items_at, #ARGV, 4 do
  local name = ARGV[i + 1]
  if by[ARGV[i]](beginning .. name, name, ARGV[i + 2], ARGV[i + 3]) then done = done + 1 end
end
return done
