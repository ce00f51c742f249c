-- The newest event of each of these entities; an entity without events has no row.
select w.place, j.sequence_number, j.event_payload
from unnest(%b::text[]) with ordinality as w (entity_id, place)
cross join lateral (
    select sequence_number, event_payload
    from event_journal
    where persistence_id = w.entity_id
    order by sequence_number desc
    limit 1
) j
