-- Keys of a state's zset, beginning with a rank, without rows; for work on many jobs in batches.
-- ARGV: state first most
-- @include lib/place
return redis.call('ZRANGE', places[state], first, first + most - 1)
