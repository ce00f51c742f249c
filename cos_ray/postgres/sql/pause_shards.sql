-- Pause or resume these shards.
insert into read_sides (projection_name, projection_key, paused, last_updated)
select %(read_side)s, s.shard, %(paused)s, (extract(epoch from clock_timestamp()) * 1000)::bigint
from unnest(%(shards)s::text[]) as s (shard)
order by s.shard
on conflict (projection_name, projection_key) do update
set paused = excluded.paused, last_updated = excluded.last_updated
