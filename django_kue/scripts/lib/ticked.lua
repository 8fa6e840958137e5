-- The last ticks of a schedule, newest first: `tick|key of its job|outcome|ended|how`. The outcome is empty until
-- the job has ended; `how` is n for a run that somebody asked for, between the ticks.
-- A tick that made no job has no key, and one of these outcomes: m missed, o the previous run wasn't over, u another
-- job held its unique key. `ended` is then how many ticks were left out together; for o, one after the other: as
-- separate entries they would push the entry of the ongoing run out of the list.
-- KEYS: schedules ticked
-- @include lib/clock
-- @include lib/record
local LAST_TICKS = 20

local function remember_tick(name, tick, key, outcome, ended, how)
  if outcome == 'o' then
    local others = string.match(redis.call('LINDEX', KEYS.ticked .. name, 0) or '', '^%d+||o|(%d+)|$')
    if others then
      redis.call('LSET', KEYS.ticked .. name, 0, table.concat({ tick, '', 'o', others + ended, '' }, '|'))
      return
    end
  end
  redis.call('LPUSH', KEYS.ticked .. name, table.concat({ tick, key, outcome, ended, how }, '|'))
  redis.call('LTRIM', KEYS.ticked .. name, 0, LAST_TICKS - 1)
end

-- Keys of the jobs of a schedule's last ticks.
local function ticked_keys(name)
  local keys, texts = {}, redis.call('LRANGE', KEYS.ticked .. name, 0, -1)
  for i = 1, #texts do
    local key = string.match(texts[i], '^%d+|([^|]+)')
    if key then keys[#keys + 1] = key end
  end
  return keys
end

-- Note that a schedule's job has ended: c completed, f failed, x cancelled. Foreign data mustn't prevent a job's end.
local function note_end_of_tick(name, key, outcome)
  local texts = redis.pcall('LRANGE', KEYS.ticked .. name, 0, -1)
  if texts.err then return end
  for i = 1, #texts do
    local tick, own, how = string.match(texts[i], '^(%d+)|([^|]*)|[^|]*|[^|]*|(.*)$')
    if own == key then
      redis.call('LSET', KEYS.ticked .. name, i - 1, table.concat({ tick, key, outcome, now_text, how }, '|'))
    end
  end
  local record = outcome == 'c' and redis.pcall('HGET', KEYS.schedules, name)
  if type(record) == 'string' then
    redis.call('HSET', KEYS.schedules, name, with_tokens(record, { s = now_text }))
  end
end
