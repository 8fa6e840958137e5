-- How busy all workers were in the last `count` buckets of a tier, the current one last.
-- Returns: the number of the last bucket, then busy and slots of each ('' where there was no worker).
-- ARGV: tier count
-- KEYS: load
-- @include lib/tiers
local answer = { 0 }
answer[1] = in_last_buckets(KEYS.load, tier, tonumber(count), function(key, buckets)
  local fields = {}
  for _, bucket in ipairs(buckets) do
    fields[#fields + 1] = bucket .. 'b'
    fields[#fields + 1] = bucket .. 's'
  end
  for _, sum in ipairs(redis.call('HMGET', key, unpack(fields))) do answer[#answer + 1] = sum or '' end
end)
return answer
