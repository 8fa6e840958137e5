-- The rows of a queue's last `count` buckets in a tier, the current one last; '' where nothing was measured.
-- It also notes how many jobs are waiting, so that the depth is known even when no worker serves the queue.
-- Returns: the number of the last bucket, then the rows.
-- ARGV: tiers tier count
-- KEYS: measures
-- @include lib/measures
-- Protected: a full or read-only Redis refuses the write, and that's just when people look.
pcall(add_to_queue, tiers, row_of_depth(depth()))
local answer = { 0 }
answer[1] = in_last_buckets(KEYS.measures, tier, tonumber(count), function(key, buckets)
  for _, row in ipairs(redis.call('HMGET', key, unpack(buckets))) do answer[#answer + 1] = row or '' end
end)
return answer
