-- An entity's events from one on, up to an offset, in order; each row says whether the journal still has
-- the event that was read last.
select
    ordering, persistence_id, sequence_number, write_timestamp, event_payload,
    (
        select cos_has_event(
            %(known_offset)s::bigint, %(known_entity)s::text, %(known_number)s::bigint, %(known_written)s::bigint
        )
    )
from event_journal
where persistence_id = %(entity_id)s
    and sequence_number >= %(first)s
    and ordering <= %(up_to)s
    and not deleted
order by sequence_number
limit %(limit)s
