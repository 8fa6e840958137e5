-- Jobs as rows for the reader (store/reads.py): key, state, record, lease, score, outcome,
-- progress, last run, marked. A key without a job gives no row.
-- KEYS: jobs leases marks outcomes progress runs
-- @include lib/place
local function row_of(key)
  local state = state_of(key)
  if not state then return nil end
  local score = places[state] and redis.call('ZSCORE', places[state], key) or ''
  return {
    key, state, redis.call('HGET', KEYS.jobs, key),
    redis.call('HGET', KEYS.leases, key) or '', score,
    redis.call('HGET', KEYS.outcomes, key) or '',
    redis.call('HGET', KEYS.progress, key) or '',
    redis.call('LINDEX', KEYS.runs .. key, -1) or '',
    redis.call('HEXISTS', KEYS.marks, key),
  }
end

local function rows_of(keys)
  local rows = {}
  for i = 1, #keys do rows[#rows + 1] = row_of(keys[i]) end
  return rows
end
