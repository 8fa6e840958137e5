-- waiting -> cancelled: it waited longer than its `expires` allows. Its entry is already gone.
-- KEYS: jobs
-- @include lib/events
-- @include lib/finish
local function expire(key, record, retention)
  local text = 'x|' .. now_text .. '|||{"type":"django_kue.errors.JobExpired","message":"not started in time"}'
  finish('cancelled', key, record, text, '', retention)
  count_up('cancelled', 1)
  emit('cancelled', key, record, '{"type":"django_kue.errors.JobExpired"}')
end
