-- A worker lost a reply: leases of its that it doesn't know of go back, unharmed and unblamed.
-- Returns the keys that were given back, and those that had been asked to stop: they're cancelled.
-- ARGV: owner retention known_leases...
-- KEYS: jobs leases ghosts marks
-- @include lib/order
-- @include lib/settle
-- @include lib/wake
local known = {}
for i = known_leases_at, #ARGV do known[ARGV[i]] = true end

-- The keys of a hash whose lease is this owner's and unknown to it, oldest first; they leave the hash.
local function take_unknown(hash)
  local held, found = redis.call('HGETALL', hash), {}
  for i = 1, #held, 2 do
    if not known[held[i + 1]] and string.match(held[i + 1], '([^|]*)$') == owner then
      found[#found + 1] = held[i]
      redis.call('HDEL', hash, held[i])
    end
  end
  table.sort(found, is_older)
  return found
end

for _, key in ipairs(take_unknown(ghosts)) do redis.call('HDEL', marks, key) end
local unknown = take_unknown(leases)
local keys, records = {}, {}
for _, key in ipairs(unknown) do
  local record = redis.call('HGET', jobs, key)
  local is_marked = redis.call('HDEL', marks, key) == 1
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
