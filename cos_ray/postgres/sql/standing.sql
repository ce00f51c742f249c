-- Where each of these entities stands, in the order in which they are given: its newest sequence
-- number, 0 without events, and whether the key given with it is known. An entity may occur several
-- times, with different keys or none.
select
    coalesce(
        (
            select j.sequence_number
            from event_journal j
            where j.persistence_id = w.entity_id
            order by j.sequence_number desc
            limit 1
        ), 0),
    exists (
        select from cos_idempotency_keys k
        where k.entity_id = w.entity_id and k.key = w.key and k.expires_at > clock_timestamp()
    )
from unnest(%b::text[], %b::text[]) with ordinality as w (entity_id, key, place)
order by w.place
