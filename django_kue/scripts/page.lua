-- A page of a state's jobs; see lib/page. `newest` = 1 reverses the order.
-- ARGV: state offset limit newest
-- @include lib/rows
-- @include lib/page
return rows_of(page_of(state, tonumber(offset), tonumber(limit), newest == '1'))
