-- Buckets of time in tiers, in the format of measures.py: `name:step:block:keep` (seconds), separated by spaces.
-- A block of buckets is one hash, which expires when all of its buckets have been kept long enough.
-- @include lib/clock
local seconds = math.floor(now / 1000)

-- Calls act(key, bucket, expires) for the current bucket of each tier; `expires` is a Unix time.
local function in_each_tier(prefix, tiers, act)
  for name, step, block, keep in string.gmatch(tiers, '(%w+):(%d+):(%d+):(%d+)') do
    local number = math.floor(seconds / block)
    act(
      prefix .. name .. ':' .. string.format('%d', number),
      string.format('%d', math.floor(seconds / step)),
      string.format('%d', (number + 1) * block + keep)
    )
  end
end

-- Calls read(key, buckets) for each block of the last `count` buckets of a tier, the current one last. Returns the
-- number of the current one.
local function in_last_buckets(prefix, tier, count, read)
  local name, step, block = string.match(tier, '(%w+):(%d+):(%d+)')
  local last, a_block = math.floor(seconds / step), block / step
  local bucket = last - count + 1
  while bucket <= last do
    local number = math.floor(bucket / a_block)
    local buckets = {}
    for i = bucket, math.min(last, (number + 1) * a_block - 1) do buckets[#buckets + 1] = string.format('%d', i) end
    read(prefix .. name .. ':' .. string.format('%d', number), buckets)
    bucket = bucket + #buckets
  end
  return last
end
