-- Entries of the indexes, each checked against the job that it names.
-- KEYS: jobs failed failed_by failing unique
-- @include lib/dossier
local is_right = {}

function is_right.failed_by(name, key)
  local record = asked('HGET', KEYS.jobs, key)
  if not record or name_of(record) ~= name then return false end
  return asked('ZSCORE', KEYS.failed, key) == asked('ZSCORE', KEYS.failed_by .. name, key)
end

function is_right.search(hash, key)
  local record = asked('HGET', KEYS.jobs, key)
  local hashes = '+' .. (record and token(head_of(record), 'k') or '') .. '+'
  return string.find(hashes, '+' .. hash .. '+', 1, true) ~= nil
end

function is_right.unique(_, hash)
  local record = asked('HGET', KEYS.jobs, asked('HGET', KEYS.unique, hash) or '')
  return record and string.match(token(head_of(record), 'u') or '', '^([^:]*)') == hash
end

function is_right.failing(_, name)
  local count = asked('ZCARD', KEYS.failed_by .. name) or 0
  return count > 0 and tonumber(asked('ZSCORE', KEYS.failing, name) or '') == count
end
