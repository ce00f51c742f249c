-- Events of all shards after one offset and up to another, in order; each row says whether the journal
-- still has the event that was read last, and up to where events were deleted.
select
    ordering, persistence_id, sequence_number, write_timestamp, event_payload,
    (
        select cos_has_event(
            %(known_offset)s::bigint, %(known_entity)s::text, %(known_number)s::bigint, %(known_written)s::bigint
        )
    ),
    (select coalesce(max(up_to), 0) from cos_deletions)
from event_journal
where ordering > %(after)s and ordering <= %(up_to)s and not deleted
order by ordering
limit %(limit)s
