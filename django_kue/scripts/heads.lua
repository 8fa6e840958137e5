-- A slice of a state's keys, without rows, each with its time (ms): for walking through queues and merging them.
-- Finished and delayed jobs can be limited to a span of time. `part`, unless '', limits failed jobs to a function,
-- or waiting ones to a priority. Waiting jobs have no time of their own (''), but their keys say when they were made.
-- ARGV: state offset most newest lowest highest part
-- KEYS: leases failed_by
-- @include lib/page
local is_reversed, first = newest == '1', tonumber(offset)
local zset = state == 'failed' and part ~= '' and KEYS.failed_by .. part or places[state]
if zset and is_reversed then
  return redis.call('ZREVRANGEBYSCORE', zset, highest, lowest, 'WITHSCORES', 'LIMIT', first, most)
elseif zset then
  return redis.call('ZRANGEBYSCORE', zset, lowest, highest, 'WITHSCORES', 'LIMIT', first, most)
end
local pairs_ = {}
for _, key in ipairs(page_of(state, first, tonumber(most), is_reversed, part)) do
  local lease = state == 'active' and redis.call('HGET', KEYS.leases, key)
  pairs_[#pairs_ + 1] = key
  pairs_[#pairs_ + 1] = lease and string.match(lease, '|(%d+)|') or ''
end
return pairs_
