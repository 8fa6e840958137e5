-- any state -> gone. A removed active job vanishes at once, but keeps its slot as a ghost until its run
-- ends; the mark tells its worker that it should stop.
-- KEYS: leases ghosts marks delayed
-- @include lib/erase
-- @include lib/events
-- @include lib/waiting
-- @include lib/finish
local function remove(key, state, record)
  if state == 'active' then
    local lease = redis.call('HGET', KEYS.leases, key)
    redis.call('HDEL', KEYS.leases, key)
    redis.call('HSET', KEYS.ghosts, key, lease)
    redis.call('HSET', KEYS.marks, key, lease)
  elseif state == 'delayed' then
    redis.call('ZREM', KEYS.delayed, key)
  elseif shelves[state] then
    take_off(state, { key })
  end
  erase({ key })
  if state == 'waiting' then leave_waiting(priority_of(head_of(record))) end
  emit('removed', key, record)
end
