-- Keys of the jobs that have one of these search keys: for each, the newest `most`.
-- ARGV: most hashes...
-- KEYS: search
local found, seen = {}, {}
for i = hashes_at, #ARGV do
  for _, key in ipairs(redis.call('ZREVRANGE', KEYS.search .. ARGV[i], 0, most - 1)) do
    if not seen[key] then found[#found + 1] = key end
    seen[key] = true
  end
end
return found
