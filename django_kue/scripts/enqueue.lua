-- (nothing) -> waiting | delayed: store new jobs, in order.
-- A connection numbers its sends: one that was applied and is sent again changes nothing.
-- Plain jobs come as groups of one priority; others (`is_special`) one by one with their times.
-- Returns '' for each plain group, or for specials the list of keys that now hold: a job's own,
-- or the key of the job that holds its unique key.
-- ARGV: sender number is_special items...
--   plain:   priority count (key record)×count, again and again
--   special: key record priority delay run_at expires unique_ms is_forwarded, again and again
-- KEYS: jobs senders delayed side search forward levels
-- @include lib/clock
-- @include lib/events
-- @include lib/waiting
-- @include lib/unique
-- @include lib/wake
local previous = redis.call('SET', senders .. sender, number, 'EX', 600, 'GET')
local is_resend = previous == number

if is_special == '0' then
  if is_resend then return {} end
  local i = items_at
  while ARGV[i] do
    local priority, count = ARGV[i], tonumber(ARGV[i + 1])
    local first = i + 2
    redis.call('HSET', jobs, unpack(ARGV, first, first + 2 * count - 1))
    local entries = {}
    for j = 1, count do entries[j] = ARGV[first + 2 * j - 2] end
    push_back(priority, entries)
    if is_heard then
      for j = 1, count do emit('enqueued', entries[j], ARGV[first + 2 * j - 1]) end
    end
    i = first + 2 * count
  end
  if not is_paused then wake_one() end
  publish()
  return {}
end

local earliest = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
earliest = earliest and tonumber(earliest) or math.huge
local holders, should_wake = {}, false
for i = items_at, #ARGV, 8 do
  local key, record, priority = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local head = head_of(record)
  local claim = token(head, 'u')
  local holder = claim and holder_of(claim, key)
  holders[#holders + 1] = holder or key
  if holder then
    if ARGV[i + 7] == '1' then redis.call('SET', forward .. key, holder, 'EX', 3600) end
  elseif not is_resend then
    local due = ARGV[i + 4] ~= '' and tonumber(ARGV[i + 4]) or now + tonumber(ARGV[i + 3])
    local tokens = {}
    if due > now then tokens.d = string.format('%d', due) end
    if ARGV[i + 5] ~= '' then tokens.e = string.format('%d', math.max(due, now) + tonumber(ARGV[i + 5])) end
    record = with_tokens(record, tokens)
    redis.call('HSET', jobs, key, record)
    if claim then hold(claim, key, tonumber(ARGV[i + 6])) end
    local hashes = token(head, 'k')
    if hashes then
      local made = now + #holders / 1024 -- jobs of one call keep their order
      for hash in string.gmatch(hashes, '[^+]+') do redis.call('ZADD', search .. hash, made, key) end
      redis.call('SADD', side, key)
    end
    if due > now then
      redis.call('ZADD', delayed, due, key)
      if due < earliest then
        earliest = due
        should_wake = true
      end
    else
      push_back(priority, { key })
      should_wake = true
    end
    emit('enqueued', key, record, due > now and 'd' or nil)
  end
end
if should_wake and not is_paused then wake_one() end
publish()
return holders
