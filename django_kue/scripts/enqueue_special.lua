-- (nothing) -> waiting | delayed: store new jobs, in order, that need decisions: those with a time, an expiry,
-- a unique key or search keys, or from an outbox.
-- A connection numbers its sends: one that was applied and is sent again changes nothing. A job from an outbox
-- may be sent by any process, at any time: while it's here, and for a while after, it isn't stored again.
-- Returns for each job its own key, or the key of the job that holds its unique key, or '' if it was known
-- already.
-- ARGV: sender number items...
--   items: key record priority delay run_at expires unique_ms is_forwarded, repeated
-- KEYS: jobs senders delayed forward bygone
-- @include lib/clock
-- @include lib/admit
-- @include lib/wake
local previous = redis.call('SET', KEYS.senders .. sender, number, 'EX', '600', 'GET')
local is_resend = previous == number

local earliest = redis.call('ZRANGE', KEYS.delayed, '0', '0', 'WITHSCORES')[2]
earliest = earliest and tonumber(earliest) or math.huge
local holders, should_wake = {}, false

local function is_known(key)
  return redis.call('HEXISTS', KEYS.jobs, key) == 1 or redis.call('EXISTS', KEYS.bygone .. key, KEYS.forward .. key) > 0
end

for i = items_at, #ARGV, 8 do
  local key, record = ARGV[i], ARGV[i + 1]
  local is_old = token(head_of(record), 'b') and not is_resend and is_known(key)
  local holder = not is_old and holder_for(key, record)
  holders[#holders + 1] = is_old and '' or holder or key
  if is_old then
    -- it was sent before
  elseif holder then
    if ARGV[i + 7] == '1' then redis.call('SET', KEYS.forward .. key, holder, 'EX', 3600) end
  elseif not is_resend then
    local due = ARGV[i + 4] ~= '' and tonumber(ARGV[i + 4]) or now + tonumber(ARGV[i + 3])
    if not admit(key, record, ARGV[i + 2], due, ARGV[i + 5], ARGV[i + 6], #holders) then
      should_wake = true
    elseif due < earliest then
      earliest = due
      should_wake = true
    end
  end
end
if should_wake and not is_paused then wake_one() end
publish()
return holders
