-- What a search looks at: the records and the outcomes of some jobs; '' for what isn't there.
-- ARGV: keys...
-- KEYS: jobs outcomes
local keys = { unpack(ARGV, keys_at) }
local records, ends = redis.call('HMGET', jobs, unpack(keys)), redis.call('HMGET', outcomes, unpack(keys))
for i = 1, #keys do
  records[i] = records[i] or ''
  ends[i] = ends[i] and string.sub(ends[i], 1, 1000) or ''
end
return { records, ends }
