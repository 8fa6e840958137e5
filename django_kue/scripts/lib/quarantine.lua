-- What can't be read is put aside, where people can look at it and it's in nobody's way.
-- KEYS: quarantined
-- Move the value of a field, if there is one, out of its hash.
local function keep_aside(name, hash, field)
  local value = redis.call('HGET', hash, field)
  if not value then return end
  redis.call('HDEL', hash, field)
  redis.call('HSET', KEYS.quarantined .. 'fields', name .. ' ' .. field, value)
end
