-- A sum that isn't a number starts again: statistics must never stop a script halfway.
local function add_up(hash, field, count)
  local sum = redis.pcall('HINCRBY', hash, field, count)
  if type(sum) == 'number' then return sum end
  redis.call('HSET', hash, field, count)
  return tonumber(count)
end
