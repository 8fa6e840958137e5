-- Make, change or delete a schedule, if it's still as it was read; what ticks have noted stays.
-- Returns whether that was done.
-- ARGV: name version record next
--   version: that of the record that was read, '' if there was none; record: the new one, '' to delete it
--   next: its next tick; '' leaves that as it is, '-' removes it
-- KEYS: schedules ticks ticked
-- @include lib/record
local stored = redis.call('HGET', KEYS.schedules, name)
local head = stored and head_of(stored) or ''
if (stored and token(head, 'v') or '') ~= version then return 0 end

if record == '' then
  redis.call('HDEL', KEYS.schedules, name)
  redis.call('ZREM', KEYS.ticks, name)
  redis.call('DEL', KEYS.ticked .. name)
  return 1
end
-- last tick and last success: scripts note them, maybe after it was read
local kept = { l = token(head, 'l'), s = token(head, 's') }
redis.call('HSET', KEYS.schedules, name, stored and with_tokens(record, kept) or record)
if next == '-' then
  redis.call('ZREM', KEYS.ticks, name)
elseif next ~= '' then
  redis.call('ZADD', KEYS.ticks, next, name)
end
return 1
