-- Entities in the order of their ids' bytes, each with its newest event. `prefix` is escaped for like;
-- `beyond` is the smallest text after all that begin with it, null for none.
select e.entity_id, j.write_timestamp, j.ordering
from (
    select entity_id
    from cos_entities
    where entity_id > %(after)s::text collate "C"
        and entity_id >= %(prefix)s::text collate "C"
        and (%(beyond)s::text is null or entity_id < %(beyond)s::text collate "C")
    order by entity_id
    limit %(limit)s
) e
left join lateral (
    select write_timestamp, ordering
    from event_journal
    where persistence_id = e.entity_id
    order by sequence_number desc
    limit 1
) j on true
order by e.entity_id
