-- What a queue's functions did in the last `count` blocks of a tier: flat lists of name and row, one a block.
-- ARGV: tier count
-- KEYS: function_measures
-- @include lib/tiers
local answer = {}
in_last_buckets(KEYS.function_measures, tier, tonumber(count), function(key)
  answer[#answer + 1] = redis.call('HGETALL', key)
end)
return answer
