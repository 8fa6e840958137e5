-- Events, gathered by the moves and published once per script, and only while somebody listens.
-- KEYS: flags events
-- @include lib/clock
-- @include lib/record
local modes = redis.call('HMGET', KEYS.flags, 'paused', 'ev')
local is_paused = modes[1]
local is_heard = (tonumber(modes[2] or '') or 0) > now
local heard = {}

local function emit(name, key, record, data)
  if is_heard then heard[#heard + 1] = { name, key, record and name_of(record) or '', data or '' } end
end

local function publish()
  if #heard > 0 then redis.call('PUBLISH', KEYS.events, cjson.encode({ now_text, heard })) end
end
