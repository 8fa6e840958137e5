-- (nothing) -> waiting: store new plain jobs of one priority, in order. All others go through enqueue_special.
-- A connection numbers its sends: one that was applied and is sent again changes nothing.
-- Most calls bring one job, so this includes nothing: setting up the functions of the libraries would cost
-- more than everything else.
-- Returns: nothing. ServerLink.carry_out() takes any other reply for a broken connection.
-- ARGV: sender number priority items...
--   items: key record, repeated
-- KEYS: jobs waiting levels senders wake flags events
if redis.call('SET', KEYS.senders .. sender, number, 'EX', '600', 'GET') == number then return end

local modes = redis.call('HMGET', KEYS.flags, 'paused', 'ev')
local heard, now_text = nil, nil
if modes[2] then
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  now_text = string.format('%d', now)
  if (tonumber(modes[2]) or 0) > now then heard = {} end
end

local length
if #ARGV == items_at + 1 then -- as in most calls: without lists to unpack
  redis.call('HSET', KEYS.jobs, ARGV[items_at], ARGV[items_at + 1])
  length = redis.call('RPUSH', KEYS.waiting .. priority, ARGV[items_at])
else
  local keys = {}
  for i = items_at, #ARGV, 2 do keys[#keys + 1] = ARGV[i] end
  redis.call('HSET', KEYS.jobs, unpack(ARGV, items_at))
  length = redis.call('RPUSH', KEYS.waiting .. priority, unpack(keys))
end
if length == (#ARGV - items_at + 1) / 2 then
  redis.call('ZADD', KEYS.levels, string.format('%d', -priority), priority)
end
if heard then
  for i = items_at, #ARGV, 2 do
    heard[#heard + 1] = { 'enqueued', ARGV[i], string.match(ARGV[i + 1], '^[^|]*|([^|]*)|') or '', '' }
  end
end
if not modes[1] then redis.call('ZADD', KEYS.wake, '0', '0') end
if heard and #heard > 0 then redis.call('PUBLISH', KEYS.events, cjson.encode({ now_text, heard })) end
