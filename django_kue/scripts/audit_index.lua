-- A slice of an index: its wrong entries. `part` is the function or the search key, if the index has many parts.
-- Returns: the next cursor ('0': that was all), whether a function's failed jobs are counted right, then the entries.
-- ARGV: index part cursor most
-- KEYS: unique failing search failed_by
-- @include lib/entries
local slice
if index == 'unique' then slice = asked('HSCAN', KEYS.unique, cursor, 'COUNT', most)
elseif index == 'failing' then slice = asked('ZSCAN', KEYS.failing, cursor, 'COUNT', most)
elseif index == 'search' then slice = asked('ZSCAN', KEYS.search .. part, cursor, 'COUNT', most)
else slice = asked('ZSCAN', KEYS.failed_by .. part, cursor, 'COUNT', most) end
slice = slice or { '0', {} }
local is_counted = index ~= 'failed_by' or is_right.failing('', part)
local answer = { slice[1], is_counted and 1 or 0 }
for i = 1, #slice[2], 2 do
  if not is_right[index](part, slice[2][i]) then answer[#answer + 1] = slice[2][i] end
end
return answer
