-- The stored text of a job, `head|name|…` (see records.py): reading and changing its head.
local function head_of(record)
  local bar = string.find(record, '|', 1, true)
  return bar and string.sub(record, 1, bar - 1) or ''
end

local function name_of(record)
  return string.match(record, '^[^|]*|([^|]*)|') or ''
end

local function token(head, letter)
  if head == '' then return nil end
  return string.match(',' .. head, ',' .. letter .. '([^,]*)')
end

-- A number from a head; foreign text counts as 0, because scripts that stop halfway would lose jobs.
local function number_of(head, letter)
  return tonumber(token(head, letter) or '') or 0
end

local function priority_of(head)
  return string.format('%d', number_of(head, 'p'))
end

-- The record with some tokens set (to a text) or dropped (false).
local function with_tokens(record, changes)
  local bar = string.find(record, '|', 1, true)
  if not bar then return record end
  local parts = {}
  for part in string.gmatch(string.sub(record, 1, bar - 1), '[^,]+') do
    if changes[string.sub(part, 1, 1)] == nil then parts[#parts + 1] = part end
  end
  for letter, value in pairs(changes) do
    if value then parts[#parts + 1] = letter .. value end
  end
  table.sort(parts)
  return table.concat(parts, ',') .. string.sub(record, bar)
end
