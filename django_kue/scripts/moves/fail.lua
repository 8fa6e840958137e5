-- active -> failed: out of attempts, discarded, or a poison pill.
-- KEYS: jobs
-- @include lib/events
-- @include lib/finish
-- @include moves/retry
-- @include moves/complete
local function fail(key, record, worker, keep, text, retention, max_runs, outcome)
  local head = head_of(record)
  local started, error_text = string.match(text, '^(%d*)|(.*)$')
  record = with_tokens(record, {
    m = string.format('%d', number_of(head, 'm') + 1), y = false, z = false,
  })
  redis.call('HSET', KEYS.jobs, key, record)
  if keep ~= '0' then remember_run(key, head, outcome or 'failed', started, 0, worker, error_text, max_runs) end
  finish('failed', key, record, outcome_text('f', worker, text), keep, retention)
  count_up('failed', 1)
  emit('failed', key, record, error_text)
end
