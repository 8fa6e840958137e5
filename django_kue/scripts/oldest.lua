-- The first waiting job of each priority (within the first 100 entries of each of its lists).
-- Returns Redis's time in ms, then a flat list: key, record.
-- KEYS: waiting levels jobs
-- @include lib/clock
-- @include lib/waiting
local found = { now }
for _, priority in ipairs(redis.call('ZRANGE', KEYS.levels, 0, -1)) do
  local entries = redis.call('LRANGE', KEYS.waiting .. priority .. ':front', 0, 99)
  for _, entry in ipairs(redis.call('LRANGE', KEYS.waiting .. priority, 0, 99)) do entries[#entries + 1] = entry end
  for _, entry in ipairs(entries) do
    local key = key_and_seat(entry)
    local record = redis.call('HGET', KEYS.jobs, key)
    if is_seated(entry, record) then
      found[#found + 1] = key
      found[#found + 1] = record
      break
    end
  end
end
return found
