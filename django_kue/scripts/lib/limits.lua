-- How many more jobs may start now, by CONCURRENCY and RATE, over all workers.
-- RATE counts the starts of the last period exactly: a list of `count:ms`, oldest at its head.
-- KEYS: leases ghosts rate
-- @include lib/clock
-- Returns the room, and how long to wait when the rate is used up (ms, or nil).
local function room_for(want, concurrency, rate_limit)
  local room, wait = want, nil
  if concurrency ~= '' then
    local active = redis.call('HLEN', leases) + redis.call('HLEN', ghosts)
    room = math.min(room, math.max(0, tonumber(concurrency) - active))
  end
  if rate_limit ~= '' then
    local most, period = string.match(rate_limit, '^(%d+):(%d+)$')
    local starts = redis.call('LRANGE', rate, 0, -1)
    local used, gone = 0, 0
    for i = 1, #starts do
      local count, at = string.match(starts[i], '^(%d+):(%d+)$')
      if tonumber(at) + period <= now then gone = gone + 1 else
        used = used + count
        wait = wait or tonumber(at) + period - now
      end
    end
    if gone > 0 then redis.call('LTRIM', rate, gone, -1) end
    if used < tonumber(most) then wait = nil end
    room = math.min(room, math.max(0, most - used))
  end
  return room, wait
end

local function count_starts(started, rate_limit)
  if rate_limit == '' or started == 0 then return end
  local period = string.match(rate_limit, ':(%d+)$')
  redis.call('RPUSH', rate, started .. ':' .. now_text)
  redis.call('PEXPIRE', rate, period)
end
