-- waiting, delayed -> gone, up to `most` a call. Returns how many were removed, and how many stale entries were passed;
-- 0 and 0 when nothing is left.
-- ARGV: most
-- KEYS: jobs levels stale delayed
-- @include lib/waiting
-- @include lib/erase
-- @include lib/unlock
local left, gone = tonumber(most), {}
local later = redis.call('ZRANGE', KEYS.delayed, 0, left - 1)
if #later > 0 then
  redis.call('ZREM', KEYS.delayed, unpack(later))
  for _, key in ipairs(later) do gone[#gone + 1] = key end
end
local passed = 0
while #gone + passed < left do
  local priority = redis.call('ZRANGE', KEYS.levels, 0, 0)[1]
  if not priority then break end
  local is_stale = redis.call('HEXISTS', KEYS.stale, priority) == 1
  local entries = pop_front(priority, left - #gone - passed, is_stale)
  if #entries == 0 then drop_level(priority) end
  local dead = 0
  for _, entry in ipairs(entries) do
    if is_seated(entry, redis.call('HGET', KEYS.jobs, (key_and_seat(entry)))) then
      gone[#gone + 1] = (key_and_seat(entry))
    else
      dead = dead + 1
    end
  end
  if dead > 0 and is_stale then settle_stale(priority, dead) end
  passed = passed + dead
end
if #gone > 0 then
  for i, record in ipairs(redis.call('HMGET', KEYS.jobs, unpack(gone))) do
    if record then unlock(gone[i], record) end
  end
end
erase(gone)
return { #gone, passed }
