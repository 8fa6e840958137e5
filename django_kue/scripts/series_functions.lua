-- What a queue's functions did in the blocks of a tier's last `count` buckets: a flat list of name and row per block.
-- ARGV: tier count
-- KEYS: function_measures
-- @include lib/tiers
local answer = {}
in_last_buckets(KEYS.function_measures, tier, tonumber(count), function(key)
  answer[#answer + 1] = redis.call('HGETALL', key)
end)
return answer
