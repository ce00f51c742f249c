-- What follows these offsets in these shards: how many events, counted to a bound, and since when.
select a.tag, n.events, f.written
from unnest(%(tags)s::text[], %(offsets)s::bigint[]) as a (tag, reached)
cross join lateral (
    select count(*) as events
    from (
        select
        from event_tag t
        where (t.tag, t.event_id) > (a.tag, a.reached) and (t.tag, t.event_id) <= (a.tag, 9223372036854775807)
        order by t.tag, t.event_id
        limit %(most)s::bigint
    ) counted
) n
left join lateral (
    select j.write_timestamp as written
    from event_tag t
    join event_journal j on j.ordering = t.event_id
    where (t.tag, t.event_id) > (a.tag, a.reached) and (t.tag, t.event_id) <= (a.tag, 9223372036854775807)
    order by t.tag, t.event_id
    limit 1
) f on true
