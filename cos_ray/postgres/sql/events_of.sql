-- An entity's events from a sequence number on, in order, with their places, so many or so many bytes
-- (as in `after`).
select p.ordering, p.sequence_number, p.event_payload, p.reached
from (
    select
        j.ordering,
        j.sequence_number,
        j.event_payload,
        octet_length(j.event_payload) as octets,
        sum(octet_length(j.event_payload))
            over (order by j.sequence_number rows unbounded preceding) as reached
    from (
        select ordering, persistence_id, sequence_number, event_payload
        from event_journal
        where persistence_id = %(entity_id)s and sequence_number >= %(first)s::bigint and not deleted
        order by persistence_id, sequence_number
        limit %(limit)s::bigint
    ) j
) p
where p.reached - p.octets < %(octets)s::bigint
order by p.sequence_number
