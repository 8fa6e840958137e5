-- Finished jobs of a state that finished before `before` (ms) -> gone, up to `most` a call.
-- Returns how many were removed.
-- ARGV: state before most
-- @include lib/finish
local old = redis.call('ZRANGEBYSCORE', shelves[state], '-inf', '(' .. before, 'LIMIT', 0, most)
if #old > 0 then
  take_off(state, old)
  erase(old)
end
return #old
