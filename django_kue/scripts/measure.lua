-- Add a worker's measurements to the current buckets of a queue and its functions, and note how many jobs are waiting.
-- A block has at most `most` functions; all others are added up under `others`. The measurements are also added to
-- all-time sums, which never decrease: monitors turn them into rates.
-- ARGV: tiers function_tiers most others row functions...
--   row: as in measures.py; '' to note only the depth
--   functions: name row, repeated
-- KEYS: function_measures run_sums function_sums
-- @include lib/measures
-- @include lib/sums
local OUTCOMES = { 'completed', 'failed', 'retried', 'other' }

local function add_sums(hash, name, text)
  local sums = { struct.unpack(HEAD, text) }
  for i, outcome in ipairs(OUTCOMES) do add_up(hash, outcome .. ':' .. name, sums[i]) end
  add_up(hash, 'us:' .. name, string.format('%d', math.floor(sums[5] * 1e6)))
end

-- `at`: the byte where the histogram begins. Returns where it ends.
local function add_cells(kind, text, at)
  local first, counts, ends = histogram(text, at)
  for i, count in ipairs(counts) do
    if count > 0 then add_up(KEYS.run_sums, kind .. ':' .. (first + i - 1), count) end
  end
  return ends
end

local function known_or_others(name)
  local is_full = redis.call('HLEN', KEYS.function_sums) >= tonumber(most) * (#OUTCOMES + 1)
  if is_full and redis.call('HEXISTS', KEYS.function_sums, 'us:' .. name) == 0 then return others end
  return name
end

local sample = row_of_depth(depth())
add_to_queue(tiers, row == '' and sample or merged(row, sample))
if row ~= '' then
  add_sums(KEYS.run_sums, '', row)
  add_cells('run', row, add_cells('wait', row, HISTOGRAM_AT))
end
for i = functions_at, #ARGV, 2 do
  add_sums(KEYS.function_sums, known_or_others(ARGV[i]), ARGV[i + 1])
  in_each_tier(KEYS.function_measures, function_tiers, function(key, _, expires)
    local name = ARGV[i]
    if redis.call('HEXISTS', key, name) == 0 and redis.call('HLEN', key) >= tonumber(most) then name = others end
    add_row(key, name, ARGV[i + 1], expires)
  end)
end
return ''
