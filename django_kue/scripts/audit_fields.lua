-- A slice of the fields and values of a hash, or of the members and scores of a sorted set, of this queue.
-- `name` is what follows the common beginning of its keys.
-- Returns: the next cursor ('0': that was all), then a flat list.
-- ARGV: name kind cursor most
-- KEYS: jobs
-- @include lib/dossier
local key = string.sub(KEYS.jobs, 1, -2) .. name
local slice = asked(kind == 'hash' and 'HSCAN' or 'ZSCAN', key, cursor, 'COUNT', most) or { '0', {} }
local answer = { slice[1] }
for _, text in ipairs(slice[2]) do answer[#answer + 1] = shown(text, TEXT) end
return answer
