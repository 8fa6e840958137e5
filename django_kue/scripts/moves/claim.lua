-- waiting -> active: the next jobs by priority, all under one lease that they share.
-- A suspect is claimed alone, so that a crash has one culprit. Stale entries are passed by, a bounded
-- number per call. A job past its `expires` is moved to cancelled.
-- KEYS: jobs leases owners levels stale
-- @include lib/clock
-- @include lib/events
-- @include lib/waiting
-- @include moves/expire
local function claim(want, lease, owner, lease_ms, retention)
  local keys, records, expired = {}, {}, {}
  local budget, is_alone = want + 256, false
  local has_stale = redis.call('EXISTS', KEYS.stale) == 1
  while #keys < want and budget > 0 and not is_alone do
    local priority = redis.call('ZRANGE', KEYS.levels, '0', '0')[1]
    if not priority then break end
    local is_stale = has_stale and redis.call('HEXISTS', KEYS.stale, priority) == 1
    local entries = pop_front(priority, math.min(want - #keys, budget), is_stale)
    if #entries == 0 then drop_level(priority) else
      budget = budget - #entries
      local lookups = entries
      if string.find(table.concat(entries), '~', 1, true) then
        lookups = {}
        for i = 1, #entries do lookups[i] = (key_and_seat(entries[i])) end
      end
      local found = redis.call('HMGET', KEYS.jobs, unpack(lookups))
      local passed = 0
      for i = 1, #entries do
        local record = found[i]
        if record and string.byte(record) == 124 and lookups[i] == entries[i] then
          keys[#keys + 1], records[#records + 1] = lookups[i], record
        elseif not is_seated(entries[i], record) then
          passed = passed + 1
        else
          local head = head_of(record)
          local deadline = number_of(head, 'e')
          if deadline > 0 and deadline < now then
            expire(lookups[i], record, retention)
            expired[#expired + 1] = lookups[i]
          elseif token(head, 'z') and #keys > 0 then
            push_front(priority, { unpack(entries, i) })
            is_alone = true
            break
          else
            keys[#keys + 1], records[#records + 1] = lookups[i], record
            if token(head, 'z') then
              if i < #entries then push_front(priority, { unpack(entries, i + 1) }) end
              is_alone = true
              break
            end
          end
        end
      end
      if passed > 0 and is_stale then settle_stale(priority, passed) end
      drop_if_empty(priority)
    end
  end
  if #keys > 0 then
    local pairs_ = {}
    for i = 1, #keys do
      pairs_[2 * i - 1], pairs_[2 * i] = keys[i], lease
    end
    redis.call('HSET', KEYS.leases, unpack(pairs_))
    redis.call('ZADD', KEYS.owners, string.format('%d', now + lease_ms), owner)
    if is_heard then
      for i = 1, #keys do emit('started', keys[i], records[i]) end
    end
  end
  return keys, records, expired
end
