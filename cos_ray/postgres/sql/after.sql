-- A shard's next events, in order; one that is marked as deleted comes without its payload. They end
-- where their payloads come to so many bytes: the last column counts these. A payload that is not
-- shown is not read from where large values are kept (TOAST): its length is known without it.
-- Each row says whether the journal still has the event that was read last, so that both are seen at one
-- moment; where there are no next events, one row without an offset says it.
-- Written so that only the index (tag, event_id) has this order. The primary key would do for
-- `tag = ... order by event_id`, and would walk past every other shard's events to find that there
-- is nothing new in this one. Sorting is switched off in the sessions that run it.
-- The writer's name is wanted where it holds a place in a trace only; others never begin so.
with known as materialized (
    select cos_has_event(
        %(known_offset)s::bigint, %(known_entity)s::text, %(known_number)s::bigint, %(known_written)s::bigint
    ) as is_there
)
select
    p.event_id, p.sequence_number, p.event_payload, p.writer, p.persistence_id, p.write_timestamp, p.is_there,
    p.reached
from (
    select
        t.tag,
        t.event_id,
        j.sequence_number,
        j.event_payload,
        case when j.writer like '00-%%' then j.writer end as writer,
        j.persistence_id,
        j.write_timestamp,
        k.is_there,
        coalesce(octet_length(j.event_payload), 0) as octets,
        sum(coalesce(octet_length(j.event_payload), 0))
            over (order by t.tag, t.event_id rows unbounded preceding) as reached
    from known k
    left join (
        select tag, event_id
        from event_tag
        where (tag, event_id) > (%(tag)s, %(offset)s::bigint)
            and (tag, event_id) <= (%(tag)s, 9223372036854775807)
        order by tag, event_id
        limit %(limit)s::bigint
    ) t on true
    left join event_journal j on j.ordering = t.event_id and not j.deleted
) p
where p.reached - p.octets < %(octets)s::bigint
order by p.tag, p.event_id
