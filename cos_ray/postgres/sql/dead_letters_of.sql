-- The oldest dead letters of an entity, so many or so many bytes (as in `after`).
select p.shard, p.ordering, p.sequence_number, p.event_payload, p.reason, p.failures, p.parked_at, p.reached
from (
    select
        d.*,
        octet_length(d.event_payload) as octets,
        sum(octet_length(d.event_payload))
            over (order by d.sequence_number rows unbounded preceding) as reached
    from (
        select *
        from cos_dead_letters
        where read_side = %(read_side)s and entity_id = %(entity_id)s
        order by read_side, entity_id, sequence_number
        limit %(limit)s::bigint
    ) d
) p
where p.reached - p.octets < %(octets)s::bigint
order by p.sequence_number
