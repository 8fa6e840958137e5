-- Renew an owner's lease. An owner that was declared dead is never revived: 0 tells it so.
-- Returns: 1 or 0, then the keys of its jobs that should stop.
-- ARGV: owner lease_ms
-- KEYS: owners marks
-- @include lib/clock
local is_alive = redis.call('ZREM', KEYS.owners, owner)
if is_alive == 1 then redis.call('ZADD', KEYS.owners, now + lease_ms, owner) end
local answer = { is_alive }
if redis.call('EXISTS', KEYS.marks) == 1 then
  local marked = redis.call('HGETALL', KEYS.marks)
  for i = 1, #marked, 2 do
    if string.match(marked[i + 1], '([^|]*)$') == owner then answer[#answer + 1] = marked[i] end
  end
end
return answer
