-- Adds up rows of measurements, whose layout measures.py describes.
-- KEYS: measures
-- @include lib/tiers
-- @include lib/depth
local HEAD, HISTOGRAM_AT = '<I4I4I4I4di4', 29

local function row_of_depth(waits) return struct.pack(HEAD, 0, 0, 0, 0, 0, waits) .. '\0\0\0\0' end

-- The histogram that begins at byte `at`: its first cell, its counts, and where the next one begins.
local function histogram(row, at)
  local first, size = string.byte(row, at, at + 1)
  local counts = {}
  if size > 0 then counts = { struct.unpack('<' .. string.rep('I4', size), row, at + 2) } end
  counts[size + 1] = nil -- struct's own position
  return first, counts, at + 2 + 4 * size
end

local function added(first, counts, other_first, others)
  if #others == 0 then return first, counts end
  if #counts == 0 then return other_first, others end
  local low = math.min(first, other_first)
  local sums = {}
  for cell = low, math.max(first + #counts, other_first + #others) - 1 do
    sums[#sums + 1] = (counts[cell - first + 1] or 0) + (others[cell - other_first + 1] or 0)
  end
  return low, sums
end

local function packed(first, counts)
  return string.char(first, #counts) .. struct.pack('<' .. string.rep('I4', #counts), unpack(counts))
end

local function merged(row, other)
  local a, b, c, d, work, waits = struct.unpack(HEAD, row)
  local a2, b2, c2, d2, work2, waits2 = struct.unpack(HEAD, other)
  local parts = { struct.pack(HEAD, a + a2, b + b2, c + c2, d + d2, work + work2, math.max(waits, waits2)) }
  local at, at2 = HISTOGRAM_AT, HISTOGRAM_AT
  for i = 2, 3 do
    local first, counts, first2, counts2
    first, counts, at = histogram(row, at)
    first2, counts2, at2 = histogram(other, at2)
    parts[i] = packed(added(first, counts, first2, counts2))
  end
  return table.concat(parts)
end

local function add_row(key, name, row, expires)
  local old = redis.call('HGET', key, name)
  local is_row, sum = false, nil
  if old then is_row, sum = pcall(merged, old, row) end -- what is no row of ours begins again
  redis.call('HSET', key, name, is_row and sum or row)
  redis.call('EXPIREAT', key, expires)
end

local function add_to_queue(tiers, row)
  in_each_tier(KEYS.measures, tiers, function(key, bucket, expires) add_row(key, bucket, row, expires) end)
end
