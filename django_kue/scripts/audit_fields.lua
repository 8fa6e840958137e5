-- A slice of one of the queue's hashes (fields and values) or sorted sets (members and scores).
-- `name` is what follows the common prefix of the queue's keys.
-- Returns: the next cursor ('0': that was all), then a flat list.
-- ARGV: name kind cursor most
-- KEYS: jobs
-- @include lib/dossier
local key = string.sub(KEYS.jobs, 1, -2) .. name
local slice = asked(kind == 'hash' and 'HSCAN' or 'ZSCAN', key, cursor, 'COUNT', most) or { '0', {} }
local answer = { slice[1] }
for _, text in ipairs(slice[2]) do answer[#answer + 1] = shown(text, TEXT) end
return answer
