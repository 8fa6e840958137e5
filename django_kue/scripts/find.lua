-- The rows of the newest `most` jobs that have all these search keys, newest last.
-- With several keys, only the newest 10,000 jobs with the rarest one are looked at.
-- ARGV: most hashes...
-- KEYS: search
-- @include lib/rows
local LOOKED_AT, BATCH = 10000, 1000
most = tonumber(most)

local rarest, others = nil, {}
for i = hashes_at, #ARGV do
  local set = KEYS.search .. ARGV[i]
  if not rarest then rarest = set
  elseif redis.call('ZCARD', set) < redis.call('ZCARD', rarest) then
    others[#others + 1] = rarest
    rarest = set
  else
    others[#others + 1] = set
  end
end

-- Those of `keys` that are in every other set, too.
local function shared(keys)
  for _, set in ipairs(others) do
    if #keys == 0 then break end
    local scores, left = redis.call('ZMSCORE', set, unpack(keys)), {}
    for i = 1, #keys do
      if scores[i] then left[#left + 1] = keys[i] end
    end
    keys = left
  end
  return keys
end

local found = {}
local batch = #others == 0 and most or BATCH
for from = 0, LOOKED_AT - 1, batch do
  local keys = redis.call('ZREVRANGE', rarest, from, from + batch - 1)
  for _, key in ipairs(shared(keys)) do
    if #found < most then found[#found + 1] = key end
  end
  if #found >= most or #keys < batch then break end
end
local oldest_first = {}
for i = #found, 1, -1 do oldest_first[#oldest_first + 1] = found[i] end
return rows_of(oldest_first)
