-- The rows of the jobs that have all these search keys, newest last.
-- ARGV: most hashes...
-- KEYS: search
-- @include lib/order
-- @include lib/rows
local sets = {}
for i = hashes_at, #ARGV do sets[#sets + 1] = search .. ARGV[i] end
local keys = redis.call('SINTER', unpack(sets))
table.sort(keys, is_older)
return rows_of({ unpack(keys, math.max(1, #keys - most + 1)) })
