-- Note that a worker declares these schedules, in the records that are as it declares them.
-- ARGV: items...
--   items: name digest, repeated
-- KEYS: schedules
-- @include lib/clock
-- @include lib/record
for i = items_at, #ARGV, 2 do
  local record = redis.call('HGET', KEYS.schedules, ARGV[i])
  if record and token(head_of(record), 'd') == ARGV[i + 1] then
    redis.call('HSET', KEYS.schedules, ARGV[i], with_tokens(record, { z = now_text }))
  end
end
