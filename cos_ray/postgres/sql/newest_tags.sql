-- The entities and tags of the journal's newest rows; what is marked as deleted counts as well.
select j.persistence_id, t.tag
from (
    select ordering, persistence_id
    from event_journal
    order by ordering desc
    limit %(limit)s
) j
join event_tag t on t.event_id = j.ordering
