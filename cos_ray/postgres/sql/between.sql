-- Events of all shards after one offset and up to another, in order, so many or so many bytes (as in
-- `after`); each row says whether the journal still has the event that was read last, and up to where
-- events were deleted.
select
    p.ordering, p.persistence_id, p.sequence_number, p.write_timestamp, p.event_payload,
    (
        select cos_has_event(
            %(known_offset)s::bigint, %(known_entity)s::text, %(known_number)s::bigint, %(known_written)s::bigint
        )
    ),
    (select coalesce(max(up_to), 0) from cos_deletions),
    p.reached
from (
    select
        j.*,
        octet_length(j.event_payload) as octets,
        sum(octet_length(j.event_payload)) over (order by j.ordering rows unbounded preceding) as reached
    from (
        select ordering, persistence_id, sequence_number, write_timestamp, event_payload
        from event_journal
        where ordering > %(after)s::bigint and ordering <= %(up_to)s::bigint and not deleted
        order by ordering
        limit %(limit)s::bigint
    ) j
) p
where p.reached - p.octets < %(octets)s::bigint
order by p.ordering
