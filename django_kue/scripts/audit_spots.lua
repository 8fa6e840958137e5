-- Dossiers of jobs that an audit suspects, with the places of their entries, each job at one moment. Long lists take
-- time, so it stops after `budget` entries; the caller asks again for the rest of the keys.
-- Returns for each job a dossier, then a flat list: priority, how often its entry is in that priority's lists.
-- ARGV: budget items...
--   items: key is_once priorities, repeated; priorities: those besides its own, separated by commas
-- KEYS: jobs
-- @include lib/spots
local found, left = {}, tonumber(budget)
for i = items_at, #ARGV, 3 do
  local key, is_once = ARGV[i], ARGV[i + 1] == '1'
  local row = add_dossiers({ key }, {})[1]
  local head = head_of(asked('HGET', KEYS.jobs, key) or '')
  local own, counts = priority_of(head), {}
  for priority in string.gmatch(own .. ',' .. ARGV[i + 2], '[^,]+') do
    if priority ~= own or #counts == 0 then
      local count, looked = entries_in(priority, own_entry(key, head), is_once)
      counts[#counts + 1], counts[#counts + 2] = priority, count
      left = left - looked
    end
  end
  found[#found + 1] = { row, counts }
  if left <= 0 then break end
end
return found
