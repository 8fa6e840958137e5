-- The outcome of a job that was not kept, for some seconds after its end; or ''.
-- ARGV: key
-- KEYS: farewells
return redis.call('GET', KEYS.farewells .. key) or ''
