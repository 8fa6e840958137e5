-- Hold the name of a schedule while it's being made: each queue, which may be a shard of its own, knows only its own
-- schedules. A maker that dies loses the name after a while.
-- Returns whether the name was free.
-- ARGV: name maker hold_ms
-- KEYS: makers
return redis.call('SET', KEYS.makers .. name, maker, 'NX', 'PX', hold_ms) and 1 or 0
