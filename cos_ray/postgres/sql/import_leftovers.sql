-- Which of the tables that an import begins or relies on are not empty.
select name
from (
    select 1 as place, 'event_journal' as name, exists (select from event_journal) as is_there
    union all select 2, 'event_tag', exists (select from event_tag)
    union all select 3, 'state_snapshot', exists (select from state_snapshot)
    union all select 4, 'read_side_offsets', exists (select from read_side_offsets where current_offset <> '0')
) leftovers
where is_there
order by place
