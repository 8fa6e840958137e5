-- waiting -> active: the plain case of a turn, for an idle worker, behind its pop: it only claims, and only one job.
-- Whatever isn't plain (a suspect, a stale entry, a job that expires, somebody who listens) is left as it is, for
-- a turn. Setting up the functions that a turn needs costs more than everything done here, so this includes nothing.
-- Returns: wait (as a turn), lease, the claimed key, its record; nothing when nothing was claimed.
-- ARGV: owner lease_ms sequence
-- KEYS: jobs waiting leases wake levels stale owners flags delayed
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local modes = redis.call('HMGET', KEYS.flags, 'paused', 'ev')
if modes[1] or (tonumber(modes[2] or '') or 0) > now or redis.call('EXISTS', KEYS.stale) == 1 then return end

local priority = redis.call('ZRANGE', KEYS.levels, '0', '0')[1]
if not priority then return end
local key, next_one = unpack(redis.call('LRANGE', KEYS.waiting .. priority, '0', '1'))
local record = key and redis.call('HGET', KEYS.jobs, key)
if not record or string.byte(record) ~= 124 then return end

redis.call('LPOP', KEYS.waiting .. priority)
if not next_one then redis.call('ZREM', KEYS.levels, priority) end
local lease = sequence .. '|' .. string.format('%d', now) .. '|' .. owner
redis.call('HSET', KEYS.leases, key, lease)
redis.call('ZADD', KEYS.owners, string.format('%d', now + lease_ms), owner)
if next_one or redis.call('EXISTS', KEYS.levels) == 1 then
  redis.call('ZADD', KEYS.wake, '0', '0')
  return { 0, lease, key, record }
end
local next_due = redis.call('ZRANGE', KEYS.delayed, '0', '0', 'WITHSCORES')[2]
return { next_due and math.max(1, next_due - now) or -3, lease, key, record }
