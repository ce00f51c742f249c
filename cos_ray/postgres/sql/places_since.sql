-- After which offset in each shard everything comes that was written since a time, where `first` is a place
-- before which nothing was, in any shard (null: there is nothing at all). From there on each shard is looked
-- through to its first such event, so many events at the most.
select
    a.tag,
    coalesce(w.hit - 1, w.last, n.event_id, 0)
from unnest(%(tags)s::text[]) as a (tag)
cross join lateral (
    select min(s.event_id) filter (where s.written >= %(since)s::bigint) as hit, max(s.event_id) as last
    from (
        select t.event_id, j.write_timestamp as written
        from event_tag t
        join event_journal j on j.ordering = t.event_id
        where (t.tag, t.event_id) >= (a.tag, %(first)s::bigint)
            and (t.tag, t.event_id) <= (a.tag, 9223372036854775807)
        order by t.tag, t.event_id
        limit %(most)s::bigint
    ) s
) w
left join lateral (
    select t.event_id
    from event_tag t
    where (t.tag, t.event_id) >= (a.tag, 0) and (t.tag, t.event_id) <= (a.tag, 9223372036854775807)
    order by t.tag desc, t.event_id desc
    limit 1
) n on true
