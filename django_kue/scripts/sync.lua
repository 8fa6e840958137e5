-- A worker lost a reply: jobs under leases that it doesn't know of go back, unharmed and unblamed.
-- Returns the keys of these jobs, including those that are cancelled instead, because they had been asked to stop.
-- ARGV: owner retention known_leases...
-- KEYS: jobs leases ghosts marks
-- @include lib/limits
-- @include lib/order
-- @include lib/settle
-- @include lib/wake
local known = {}
for i = known_leases_at, #ARGV do known[ARGV[i]] = true end

-- Take the keys out of a hash whose lease is this owner's and unknown to it. Returns them, oldest first, and how many
-- each lease has.
local function take_unknown(hash)
  local held, found, counts = redis.call('HGETALL', hash), {}, {}
  for i = 1, #held, 2 do
    local key, lease = held[i], held[i + 1]
    if not known[lease] and string.match(lease, '([^|]*)$') == owner then
      found[#found + 1] = key
      counts[lease] = (counts[lease] or 0) + 1
      redis.call('HDEL', hash, key)
    end
  end
  table.sort(found, is_older)
  return found, counts
end

for _, key in ipairs((take_unknown(KEYS.ghosts))) do redis.call('HDEL', KEYS.marks, key) end
local unknown, unstarted = take_unknown(KEYS.leases)
for lease, count in pairs(unstarted) do uncount_starts(count, lease) end
local keys, records = {}, {}
for _, key in ipairs(unknown) do
  local record = redis.call('HGET', KEYS.jobs, key)
  local is_marked = redis.call('HDEL', KEYS.marks, key) == 1
  if record and is_marked then
    end_cancelled(key, record, '', '|', retention)
  elseif record then
    keys[#keys + 1], records[#records + 1] = key, record
  end
end
if #keys > 0 then
  release(keys, records)
  if not is_paused then wake_one() end
end
publish()
return unknown
