-- A worker's turn: settle what has finished, promote what is due, claim what comes next.
-- All that takes one call per batch, which is where the engine's speed comes from.
-- Returns: 1 wait (ms until the next delayed job or free rate; -1 paused, -2 at the concurrency
-- limit, -3 nothing more is there; 0 when jobs were claimed, and there may be more), 2 refused keys, 3 keys
-- cancelled by their mark, 4 lease, 5 claimed keys, 6 their records, 7 expired keys, 8 promoted keys.
-- ARGV: want owner lease_ms sequence switches retention max_runs max_crashes concurrency rate_limit work_ms batches...
--   switches: letters; w woken by the marker, p return the promoted keys
--   batches:  lease count kind keys×count outcomes×count, repeated; kind c: all are plain completions
--             without their letter
-- KEYS: leases delayed wake levels totals
-- @include lib/clock
-- @include lib/settle
-- @include lib/limits
-- @include moves/promote
-- @include moves/claim
local refused, cancelled_ = {}, {}
redis.call('HDEL', KEYS.leases, '') -- a first write that is never refused for want of memory

local i, settled = batches_at, 0
while ARGV[i] do
  local lease, count, is_plain = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2] == 'c'
  local keys = { unpack(ARGV, i + 3, i + 2 + count) }
  local texts = { unpack(ARGV, i + 3 + count, i + 2 + 2 * count) }
  if not (is_plain and settle_plain(lease, keys, texts, retention)) then
    if is_plain then
      for j = 1, count do texts[j] = 'c' .. texts[j] end
    end
    local no, ended, unstarted = settle(lease, keys, texts, retention, max_runs, tonumber(max_crashes))
    for _, key in ipairs(no) do refused[#refused + 1] = key end
    for _, key in ipairs(ended) do cancelled_[#cancelled_ + 1] = key end
    if rate_limit ~= '' then uncount_starts(unstarted, lease) end
  end
  i = i + 3 + 2 * count
  settled = settled + count
end
if work_ms ~= '0' then add_up(KEYS.totals, 'work_ms', work_ms) end

local due = redis.call('ZRANGEBYSCORE', KEYS.delayed, '-inf', now_text, 'LIMIT', '0', '256')
if #due > 0 then promote(due) end

local wait, keys, records, expired = 0, {}, {}, {}
local lease = sequence .. '|' .. now_text .. '|' .. owner
local is_limited = concurrency ~= '' or rate_limit ~= ''
local room, free_in = tonumber(want), nil
if is_paused then
  wait, room = -1, 0
elseif room > 0 then
  room, free_in = room_for(room, concurrency, rate_limit)
  if room == 0 then
    wait = free_in or -2
  else
    keys, records, expired = claim(room, lease, owner, tonumber(lease_ms), retention)
    count_starts(#keys, rate_limit)
  end
end

-- A worker that leaves something in a list wakes the next one; so does one that gives jobs back, and one that frees a
-- slot.
local is_woken = string.find(switches, 'w', 1, true) or #due > 0 or has_refilled
  or (is_limited and settled > 0)
local has_more = redis.call('EXISTS', KEYS.levels) == 1
if is_woken and has_more and not is_paused then
  local free = not is_limited or room_for(1, concurrency, rate_limit) > 0
  if free then redis.call('ZADD', KEYS.wake, '0', '0') end
end

if wait == 0 and not (#keys > 0 and has_more) then
  local next_due = redis.call('ZRANGE', KEYS.delayed, '0', '0', 'WITHSCORES')[2]
  wait = next_due and math.max(1, next_due - now) or -3
  if has_more and room > 0 then wait = 1 end -- only stale entries were passed: go on
end
publish()
return { wait, refused, cancelled_, lease, keys, records, expired, string.find(switches, 'p', 1, true) and due or {} }
