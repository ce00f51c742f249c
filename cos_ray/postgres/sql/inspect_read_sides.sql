-- How far each read side has come in each shard it has ever been seen in, and how many events follow.
with places as (
    select
        projection_name,
        projection_key,
        o.current_offset,
        case when o.current_offset ~ '^[0-9]{1,18}$' then o.current_offset::bigint end as reached,
        coalesce(p.paused, false) as paused
    from read_side_offsets o
    full join read_sides p using (projection_name, projection_key)
)
select a.projection_name, a.projection_key, a.current_offset, a.reached, a.paused, count(t.event_id)
from places a
left join event_tag t on t.tag = a.projection_key and t.event_id > coalesce(a.reached, 0)
group by a.projection_name, a.projection_key, a.current_offset, a.reached, a.paused
order by a.projection_name, a.projection_key
