-- Keep how far a read side has come in these shards.
insert into read_side_offsets
    (projection_name, projection_key, current_offset, manifest, mergeable, last_updated)
select %(read_side)s, o.shard, o.reached, 'SEQ', false, (extract(epoch from clock_timestamp()) * 1000)::bigint
from unnest(%(shards)s::text[], %(offsets)s::text[]) as o (shard, reached)
order by o.shard
on conflict (projection_name, projection_key) do update
set current_offset = excluded.current_offset,
    manifest = excluded.manifest,
    mergeable = excluded.mergeable,
    last_updated = excluded.last_updated
