-- A slice of the server's keys: those of this queue, named by what follows their common prefix.
-- Returns: the next cursor ('0': that was all), then a flat list: name, type, ms left to live (-1: for ever),
-- whether its job or schedule would clean it up ('1' also if it belongs to neither).
-- ARGV: cursor most
-- KEYS: jobs side schedules
-- @include lib/dossier
local beginning = string.sub(KEYS.jobs, 1, -2)
local pattern = string.gsub(beginning, '[%*%?%[%]\\]', '\\%0') .. '*'
local slice = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', most)
local answer = { slice[1] }
for _, key in ipairs(slice[2]) do
  local name = string.sub(key, #beginning + 1)
  local is_clean = '1'
  local owner = string.match(name, '^[lr]:(.*)$')
  if owner then
    local is_known = asked('HEXISTS', KEYS.jobs, owner) == 1 and asked('SISMEMBER', KEYS.side, owner) == 1
    if not is_known then is_clean = '0' end
  end
  local schedule = string.match(name, '^sr:(.*)$')
  if schedule and asked('HEXISTS', KEYS.schedules, schedule) ~= 1 then is_clean = '0' end
  answer[#answer + 1] = name
  answer[#answer + 1] = redis.call('TYPE', key).ok
  answer[#answer + 1] = redis.call('PTTL', key)
  answer[#answer + 1] = is_clean
end
return answer
