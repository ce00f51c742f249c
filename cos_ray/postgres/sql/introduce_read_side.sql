-- Note the shards of a read side. One that has neither offsets nor orders yet is new.
insert into read_sides (projection_name, projection_key, paused, last_updated)
select
    %(read_side)s::text,
    s.shard,
    %(paused)s::boolean
        and not exists (select from read_sides r where r.projection_name = %(read_side)s::text)
        and not exists (select from read_side_offsets o where o.projection_name = %(read_side)s::text),
    (extract(epoch from clock_timestamp()) * 1000)::bigint
from unnest(%(shards)s::text[]) as s (shard)
order by s.shard
on conflict do nothing
