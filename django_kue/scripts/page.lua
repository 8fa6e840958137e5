-- A page of a state's jobs; see lib/page. `newest` = 1 turns the order round.
-- ARGV: state offset limit newest
-- @include lib/rows
-- @include lib/page
return rows_of(page_of(state, tonumber(offset), tonumber(limit), newest == '1'))
