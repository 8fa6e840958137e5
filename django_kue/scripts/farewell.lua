-- The outcome of a job that was not kept, for a few seconds after its end; otherwise ''.
-- ARGV: key
-- KEYS: farewells
return redis.call('GET', KEYS.farewells .. key) or ''
