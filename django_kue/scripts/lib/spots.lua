-- Where a job's own entry is in the waiting lists.
-- KEYS: waiting
-- @include lib/dossier
local function own_entry(key, head)
  local seat = token(head, 's')
  return seat and key .. '~' .. seat or key
end

-- How often an entry is in the lists of a priority, and how many entries were looked at. `is_once`: the first one found
-- is enough, and only the ends of a list are searched: an entry in between was there all the while when the audit
-- walked through the list, so the audit has met it.
local ENDS = 100000
local function entries_in(priority, entry, is_once)
  local count, looked = 0, 0
  for _, list in ipairs({ KEYS.waiting .. priority, KEYS.waiting .. priority .. ':front' }) do
    local length = asked('LLEN', list) or 0
    if not is_once then
      count = count + #(asked('LPOS', list, entry, 'COUNT', 0) or {})
      looked = looked + length
    elseif asked('LPOS', list, entry, 'MAXLEN', 1000) or asked('LPOS', list, entry, 'RANK', -1, 'MAXLEN', ENDS)
      or asked('LPOS', list, entry, 'MAXLEN', ENDS) then
      return 1, 0
    else
      looked = looked + math.min(length, 2 * ENDS)
    end
  end
  return count, looked
end
