-- A slice of the jobs as dossiers (lib/dossier), or with an empty `cursor`, dossiers of the given keys.
-- Returns: the next cursor ('0': that was all), then the dossiers.
-- ARGV: cursor most keys...
-- KEYS: jobs
-- @include lib/dossier
if cursor == '' then return add_dossiers({ unpack(ARGV, keys_at) }, { '0' }) end
local slice = asked('HSCAN', KEYS.jobs, cursor, 'COUNT', most) or { '0', {} }
local keys = {}
for i = 1, #slice[2], 2 do keys[#keys + 1] = slice[2][i] end
return add_dossiers(keys, { slice[1] })
