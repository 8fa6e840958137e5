-- What a search looks at: the records of some jobs, and for failed and cancelled ones the beginning of the outcome,
-- which has the error. '' for what isn't there. Long records are cut: a title seldom needs more, and is then read
-- with the whole job.
-- ARGV: keys...
-- KEYS: jobs outcomes
local RECORD, OUTCOME = 4096, 1024 -- bytes; the first as in store/reads.py
local keys = { unpack(ARGV, keys_at) }
local records, ends = redis.call('HMGET', KEYS.jobs, unpack(keys)), redis.call('HMGET', KEYS.outcomes, unpack(keys))
for i = 1, #keys do
  local record, outcome = records[i] or '', ends[i]
  local letter = outcome and string.byte(outcome)
  local has_error = letter == 102 or letter == 120 -- f x
  records[i] = #record > RECORD and string.sub(record, 1, RECORD) or record
  ends[i] = has_error and string.sub(outcome, 1, OUTCOME) or ''
end
return { records, ends }
