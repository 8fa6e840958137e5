-- A digest that shows whether the lists of a priority were touched, of their lengths, their ends and the noted number
-- of stale entries.
-- KEYS: waiting stale
-- @include lib/dossier
local function shape_of(priority)
  local parts = { asked('HGET', KEYS.stale, priority) or '' }
  for _, list in ipairs({ KEYS.waiting .. priority, KEYS.waiting .. priority .. ':front' }) do
    parts[#parts + 1] = asked('LLEN', list) or 0
    parts[#parts + 1] = asked('LINDEX', list, 0) or ''
    parts[#parts + 1] = asked('LINDEX', list, -1) or ''
  end
  return redis.sha1hex(table.concat(parts, ' '))
end
