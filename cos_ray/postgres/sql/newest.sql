-- The newest event of each of these entities; an entity without events has no row. Where the payloads
-- come to so many bytes, those of the rows that follow are left out (null), to be asked for again.
select
    p.place,
    p.sequence_number,
    case when p.reached - octet_length(p.event_payload) < %(octets)s::bigint then p.event_payload end,
    p.reached
from (
    select
        w.place,
        j.sequence_number,
        j.event_payload,
        sum(octet_length(j.event_payload)) over (order by w.place rows unbounded preceding) as reached
    from unnest(%(entity_ids)b::text[]) with ordinality as w (entity_id, place)
    cross join lateral (
        select sequence_number, event_payload
        from event_journal
        where persistence_id = w.entity_id
        order by sequence_number desc
        limit 1
    ) j
) p
