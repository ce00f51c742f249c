-- Keep how far a read side has come in these shards; answers with those that were saved.
-- Only whoever has claimed a shard saves its offset. The lock makes a claim that is being made wait
-- for this, and this for the claim: whoever takes a shard over finds the last offset ever saved.
with ours as (
    select c.shard::text as shard
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = any(%(shards)s::integer[]) and c.owner = %(owner)s
    order by c.shard
    for share
)
insert into read_side_offsets
    (projection_name, projection_key, current_offset, manifest, mergeable, last_updated)
select %(read_side)s, o.shard::text, o.reached, 'SEQ', false, (extract(epoch from clock_timestamp()) * 1000)::bigint
from unnest(%(shards)s::integer[], %(offsets)s::text[]) as o (shard, reached)
join ours on ours.shard = o.shard::text
order by o.shard
on conflict (projection_name, projection_key) do update
set current_offset = excluded.current_offset,
    manifest = excluded.manifest,
    mergeable = excluded.mergeable,
    last_updated = excluded.last_updated
returning projection_key
