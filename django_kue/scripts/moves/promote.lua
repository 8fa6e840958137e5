-- delayed -> waiting: its time has come, or somebody said so.
-- KEYS: jobs delayed
-- @include lib/events
-- @include lib/waiting
local function promote(keys)
  redis.call('ZREM', KEYS.delayed, unpack(keys))
  local records = redis.call('HMGET', KEYS.jobs, unpack(keys))
  local by_priority, order = {}, {}
  for i = 1, #keys do
    local record = records[i]
    if record then
      local head = head_of(record)
      local priority = priority_of(head)
      local entries = by_priority[priority]
      if not entries then
        entries = {}
        by_priority[priority] = entries
        order[#order + 1] = priority
      end
      entries[#entries + 1] = entry_of(keys[i], head)
      emit('promoted', keys[i], record)
    end
  end
  for _, priority in ipairs(order) do push_back(priority, by_priority[priority]) end
end
