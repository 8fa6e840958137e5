-- Dossiers: all the places where a job's key is, read at one moment. An audit judges by them.
-- A key of a wrong type counts as empty: audit_keys reports it.
-- KEYS: jobs leases ghosts marks owners delayed completed failed cancelled kept_completed kept_failed
-- KEYS: kept_cancelled outcomes progress side failed_by unique search
-- @include lib/record
local TEXT, OUTCOME, CHUNK = 16384, 128, 500 -- bytes of a text that are shown; keys that are looked at together

local function asked(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then return nil end
  return reply
end

local function of_each(command, name, keys) return asked(command, name, unpack(keys)) or {} end

local function shown(text, most) return text and string.sub(text, 1, most) or false end

-- Whether the death of a lease's owner would be noticed.
local function is_watched(lease)
  if not lease then return 0 end
  local owner = string.match(lease, '([^|]*)$')
  local deadline = asked('ZSCORE', KEYS.owners, owner) or asked('ZSCORE', KEYS.owners, 'dead|' .. owner)
  return deadline and 1 or 0
end

local function holder_of_unique(head)
  local hash = string.match(token(head, 'u') or '', '^([^:]*):')
  return hash and asked('HGET', KEYS.unique, hash) or false
end

-- The search keys by which the job can't be found, as in its record.
local function lost_hashes(key, head)
  local lost = {}
  for hash in string.gmatch(token(head, 'k') or '', '[^+]+') do
    if not asked('ZSCORE', KEYS.search .. hash, key) then lost[#lost + 1] = hash end
  end
  return table.concat(lost, '+')
end

local function add_dossiers(keys, found)
  for first = 1, #keys, CHUNK do
    local some = { unpack(keys, first, math.min(first + CHUNK - 1, #keys)) }
    local records, leased = of_each('HMGET', KEYS.jobs, some), of_each('HMGET', KEYS.leases, some)
    local removed, marked = of_each('HMGET', KEYS.ghosts, some), of_each('HMGET', KEYS.marks, some)
    local ended, told = of_each('HMGET', KEYS.outcomes, some), of_each('HMGET', KEYS.progress, some)
    local has_side = of_each('SMISMEMBER', KEYS.side, some)
    local scores = {}
    for at, zset in ipairs({
      KEYS.delayed, KEYS.completed, KEYS.failed, KEYS.cancelled,
      KEYS.kept_completed, KEYS.kept_failed, KEYS.kept_cancelled,
    }) do
      scores[at] = of_each('ZMSCORE', zset, some)
    end
    for i = 1, #some do
      local record = records[i]
      local head = record and head_of(record) or ''
      local listed = record and scores[3][i] and asked('ZSCORE', KEYS.failed_by .. name_of(record), some[i])
      found[#found + 1] = {
        some[i], shown(record, TEXT), leased[i] or false, is_watched(leased[i]),
        removed[i] or false, is_watched(removed[i]), marked[i] or false,
        scores[1][i] or false, scores[2][i] or false, scores[3][i] or false, scores[4][i] or false,
        scores[5][i] or false, scores[6][i] or false, scores[7][i] or false,
        shown(ended[i], OUTCOME), shown(told[i], TEXT), has_side[i] or 0,
        listed or false, holder_of_unique(head), lost_hashes(some[i], head),
      }
    end
  end
  return found
end
