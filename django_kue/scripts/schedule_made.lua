-- Let the name of a schedule go. Returns whether this maker still held it.
-- ARGV: name maker
-- KEYS: makers
if redis.call('GET', KEYS.makers .. name) ~= maker then return 0 end
return redis.call('DEL', KEYS.makers .. name)
