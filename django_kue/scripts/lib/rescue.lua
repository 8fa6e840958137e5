-- Jobs of dead owners go back to the front of their priority. Nobody is blamed: they're suspects,
-- to be claimed alone; a suspect that had been started when its owner died counts a crash.
-- If no rescue ran for longer than a lease, Redis was away: the living first get time to report.
-- KEYS: jobs leases ghosts marks owners flags
-- @include lib/clock
-- @include lib/order
-- @include lib/settle
local CRASHED = '{"type":"django_kue.errors.JobCrashed","message":"the worker that ran it died"}'

local function take_back(is_dead, retention, max_runs, max_crashes)
  local held = redis.call('HGETALL', leases)
  local found, rescued = {}, {}
  for i = 1, #held, 2 do
    if is_dead(string.match(held[i + 1], '([^|]*)$')) then found[#found + 1] = { held[i], held[i + 1] } end
  end
  local ghosted = redis.call('HGETALL', ghosts)
  for i = 1, #ghosted, 2 do
    if is_dead(string.match(ghosted[i + 1], '([^|]*)$')) then
      redis.call('HDEL', ghosts, ghosted[i])
      redis.call('HDEL', marks, ghosted[i])
    end
  end
  table.sort(found, function(a, b) return is_older(b[1], a[1]) end)
  for _, pair in ipairs(found) do
    local key, lease = pair[1], pair[2]
    redis.call('HDEL', leases, key)
    local record = redis.call('HGET', jobs, key)
    if record then
      if redis.call('HDEL', marks, key) == 1 then
        end_cancelled(key, record, worker_of(lease), '|', retention)
      else
        rescued[#rescued + 1] = key
        if token(head_of(record), 'y') then
          crash(key, record, worker_of(lease), max_crashes, '|' .. CRASHED, retention, max_runs)
        else
          suspect(key, record)
        end
      end
    end
  end
  return rescued
end

local function rescue(lease_ms, retention, max_runs, max_crashes)
  local last = redis.call('HGET', flags, 'pulse')
  redis.call('HSET', flags, 'pulse', now_text)
  if last and now - last > lease_ms then
    for _, owner in ipairs(redis.call('ZRANGE', owners, 0, -1)) do
      redis.call('ZADD', owners, now + lease_ms, owner)
    end
    return {}
  end
  local dead = redis.call('ZRANGEBYSCORE', owners, '-inf', now_text)
  if #dead == 0 then return {} end
  local is_dead = {}
  for _, owner in ipairs(dead) do
    is_dead[owner] = true
    redis.call('ZREM', owners, owner)
  end
  return take_back(function(owner) return is_dead[owner] end, retention, max_runs, max_crashes)
end
