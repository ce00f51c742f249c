-- Which of these shards have events after these offsets. One look into an index for each.
select a.tag
from unnest(%(tags)s::text[], %(offsets)s::bigint[]) as a (tag, reached)
where exists (
    select
    from event_tag t
    where (t.tag, t.event_id) > (a.tag, a.reached) and (t.tag, t.event_id) <= (a.tag, 9223372036854775807)
)
