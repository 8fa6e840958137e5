-- Add what a worker measured to the running buckets of a queue and of its functions, and note how many jobs wait.
-- A block of functions has `most` of them at most; what others did is added up under `others`.
-- ARGV: tiers function_tiers most others row functions...
--   row: as in measures.py, or '': only the depth is noted
--   functions: name row, again and again
-- KEYS: measures function_measures
-- @include lib/measures
local sample = row_of_depth(depth())
add_to_queue(tiers, row == '' and sample or merged(row, sample))
for i = functions_at, #ARGV, 2 do
  in_each_tier(function_measures, function_tiers, function(key, _, expires)
    local name = ARGV[i]
    if redis.call('HEXISTS', key, name) == 0 and redis.call('HLEN', key) >= tonumber(most) then name = others end
    add_row(key, name, ARGV[i + 1], expires)
  end)
end
return ''
