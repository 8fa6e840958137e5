-- waiting | delayed -> cancelled. An active job gets a mark; the end of its run moves it.
-- KEYS: jobs leases marks delayed
-- @include lib/events
-- @include lib/finish
-- @include lib/waiting
-- @include moves/complete
local function end_cancelled(key, record, worker, text, retention, has_run)
  if has_run then
    record = with_tokens(record, { m = string.format('%d', number_of(head_of(record), 'm') + 1) })
    redis.call('HSET', KEYS.jobs, key, record)
  end
  finish('cancelled', key, record, outcome_text('x', worker, text), '', retention)
  count_up('cancelled', 1)
  emit('cancelled', key, record)
end

local function cancel(key, state, record, retention)
  if state == 'active' then
    redis.call('HSET', KEYS.marks, key, redis.call('HGET', KEYS.leases, key))
    return
  end
  if state == 'delayed' then
    redis.call('ZREM', KEYS.delayed, key)
  else
    local head = head_of(record)
    record = with_tokens(record, { s = next_seat(head) })
    redis.call('HSET', KEYS.jobs, key, record)
    leave_waiting(priority_of(head))
  end
  end_cancelled(key, record, '', '|', retention)
end
