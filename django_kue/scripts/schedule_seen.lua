-- A worker declares these schedules: that's noted in the records which stand as it declares them.
-- ARGV: items...
--   items: name digest, again and again
-- KEYS: schedules
-- @include lib/clock
-- @include lib/record
for i = items_at, #ARGV, 2 do
  local record = redis.call('HGET', KEYS.schedules, ARGV[i])
  if record and token(head_of(record), 'd') == ARGV[i + 1] then
    redis.call('HSET', KEYS.schedules, ARGV[i], with_tokens(record, { z = now_text }))
  end
end
