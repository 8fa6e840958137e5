-- How many more jobs may start now, by CONCURRENCY and RATE, across all workers.
-- For RATE, the starts of the last period are counted exactly, in a list of `count:ms:sum`, oldest at its head. The
-- sum is that of all starts up to and including this entry, so that head and tail show how many the list holds.
-- KEYS: leases ghosts rate
-- @include lib/clock
local function start_at(index)
  local count, at, sum = string.match(redis.call('LINDEX', KEYS.rate, index) or '', '^(%d+):(%d+):(%d+)$')
  return tonumber(count), tonumber(at), tonumber(sum)
end

-- Forget starts that were more than a period ago, at most 256 per turn: if there are more, some still count, which
-- holds back too many jobs for a moment, never too few.
local function forget_starts(period)
  local _, oldest = start_at(0)
  if not oldest or oldest + period > now then return end
  local starts, gone = redis.call('LRANGE', KEYS.rate, 0, 255), 0
  for i = 1, #starts do
    local at = tonumber(string.match(starts[i], '^%d+:(%d+):') or '')
    if at and at + period > now then break end
    gone = gone + 1
  end
  redis.call('LTRIM', KEYS.rate, gone, -1)
end

-- How many starts the list holds, and the time of the oldest.
local function starts_held()
  local count, oldest, sum = start_at(0)
  local _, _, last = start_at(-1)
  if count and last then return last - sum + count, oldest end
  redis.call('DEL', KEYS.rate) -- there is none, or it isn't ours
  return 0, now
end

-- Returns the room, and how long to wait when the rate is used up (ms, or nil).
local function room_for(want, concurrency, rate_limit)
  local room, wait = want, nil
  if concurrency ~= '' then
    local active = redis.call('HLEN', KEYS.leases) + redis.call('HLEN', KEYS.ghosts)
    room = math.min(room, math.max(0, tonumber(concurrency) - active))
  end
  if rate_limit ~= '' then
    local most, period = string.match(rate_limit, '^(%d+):(%d+)$')
    forget_starts(period)
    local used, oldest = starts_held()
    if used >= tonumber(most) then wait = math.max(1, oldest + period - now) end
    room = math.min(room, math.max(0, most - used))
  end
  return room, wait
end

local function count_starts(started, rate_limit)
  if rate_limit == '' or started == 0 then return end
  local period = string.match(rate_limit, ':(%d+)$')
  local _, _, sum = start_at(-1)
  sum = string.format('%d', (sum or 0) + started)
  redis.call('RPUSH', KEYS.rate, started .. ':' .. now_text .. ':' .. sum)
  redis.call('PEXPIRE', KEYS.rate, period)
end

-- Take back starts of a claim whose jobs never ran: others may start in their place. That's done only among the last
-- 256 entries, since all sums after the claim's are rewritten: an older claim holds back too many jobs for a period,
-- never too few.
local function uncount_starts(unstarted, lease)
  if unstarted == 0 then return end
  local claimed = string.match(lease, '|(%d+)|')
  local entries, given_back = redis.call('LRANGE', KEYS.rate, -256, -1), 0
  for i = 1, #entries do
    local started, at, sum = string.match(entries[i], '^(%d+):(%d+):(%d+)$')
    if not started then return end -- it isn't ours
    local fewer = at == claimed and math.min(tonumber(started), unstarted - given_back) or 0
    given_back = given_back + fewer
    if given_back > 0 then
      sum = string.format('%d', sum - given_back)
      redis.call('LSET', KEYS.rate, i - #entries - 1, (started - fewer) .. ':' .. at .. ':' .. sum)
    end
  end
end
