-- Put right a priority's entry among the levels, and also the noted number of stale entries (`dead`; '': none, and no
-- front list), if its lists are still as an audit saw them (`shape`, see audit_level; '': leave the number alone).
-- Returns whether they were.
-- ARGV: priority shape dead
-- KEYS: waiting levels stale
-- @include lib/shape
-- @include lib/wake
local main, front = KEYS.waiting .. priority, KEYS.waiting .. priority .. ':front'
if redis.call('EXISTS', main, front) == 0 then
  redis.call('ZREM', KEYS.levels, priority)
elseif string.find(priority, '^-?%d+$') then
  redis.call('ZADD', KEYS.levels, -priority, priority)
  wake_one()
end
if shape == '' then return 1 end
if shape_of(priority) ~= shape then return 0 end
if dead == '' then redis.call('HDEL', KEYS.stale, priority) else redis.call('HSET', KEYS.stale, priority, dead) end
return 1
