-- The oldest dead letters of a read side, so many or so many bytes (as in `after`).
select p.shard, p.ordering, p.sequence_number, p.event_payload, p.reason, p.failures, p.parked_at, p.reached
from (
    select
        d.*,
        octet_length(d.event_payload) as octets,
        sum(octet_length(d.event_payload))
            over (order by d.ordering rows unbounded preceding) as reached
    from (
        select *
        from cos_dead_letters
        where read_side = %(read_side)s
        order by read_side, ordering
        limit %(limit)s::bigint
    ) d
) p
where p.reached - p.octets < %(octets)s::bigint
order by p.ordering
