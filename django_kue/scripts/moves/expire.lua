-- waiting -> cancelled: it waited longer than its `expires` allows. Its entry is already gone.
-- @include lib/events
-- @include lib/finish
local EXPIRED = '{"type":"django_kue.errors.JobExpired","message":"not started in time"}'

local function expire(key, record, retention)
  finish('cancelled', key, record, 'x|' .. now_text .. '|||' .. EXPIRED, '', retention)
  count_up('cancelled', 1)
  emit('cancelled', key, record, EXPIRED)
end
