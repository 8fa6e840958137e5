-- The order of keys by age: they begin with the time when they were made (see ids.py), in base64, which has an order of
-- its own.
local ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
local ranks = {}
for i = 1, #ALPHABET do ranks[string.byte(ALPHABET, i)] = i end

local function is_older(key, other)
  for i = 1, math.min(#key, #other) do
    local one, two = ranks[string.byte(key, i)] or 0, ranks[string.byte(other, i)] or 0
    if one ~= two then return one < two end
  end
  return #key < #other
end
