-- An entity's events from one on, up to an offset, in order, so many or so many bytes (as in `after`);
-- each row says whether the journal still has the event that was read last.
select
    p.ordering, p.persistence_id, p.sequence_number, p.write_timestamp, p.event_payload,
    (
        select cos_has_event(
            %(known_offset)s::bigint, %(known_entity)s::text, %(known_number)s::bigint, %(known_written)s::bigint
        )
    ),
    p.reached
from (
    select
        j.*,
        octet_length(j.event_payload) as octets,
        sum(octet_length(j.event_payload))
            over (order by j.sequence_number rows unbounded preceding) as reached
    from (
        select ordering, persistence_id, sequence_number, write_timestamp, event_payload
        from event_journal
        where persistence_id = %(entity_id)s
            and sequence_number >= %(first)s::bigint
            and ordering <= %(up_to)s::bigint
            and not deleted
        order by persistence_id, sequence_number
        limit %(limit)s::bigint
    ) j
) p
where p.reached - p.octets < %(octets)s::bigint
order by p.sequence_number
