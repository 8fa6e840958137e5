-- Somebody makes a schedule, and holds its name meanwhile: each queue, which may be a shard of its own, knows only its
-- own schedules. Who dies loses the name after a while.
-- Returns whether the name was free.
-- ARGV: name maker hold_ms
-- KEYS: makers
return redis.call('SET', KEYS.makers .. name, maker, 'NX', 'PX', hold_ms) and 1 or 0
