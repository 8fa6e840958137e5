-- A worker lost a reply: leases of its that it doesn't know of go back, unharmed and unblamed.
-- Returns the keys that were given back.
-- ARGV: owner known_leases...
-- KEYS: jobs leases
-- @include moves/release
-- @include lib/wake
local known = {}
for i = known_leases_at, #ARGV do known[ARGV[i]] = true end
local held = redis.call('HGETALL', leases)
local keys, records = {}, {}
for i = 1, #held, 2 do
  if not known[held[i + 1]] and string.match(held[i + 1], '([^|]*)$') == owner then
    local record = redis.call('HGET', jobs, held[i])
    redis.call('HDEL', leases, held[i])
    if record then keys[#keys + 1], records[#records + 1] = held[i], record end
  end
end
if #keys > 0 then
  release(keys, records)
  wake_one()
end
publish()
return keys
