-- Forget which events were stepped over after these offsets, in the shards that are one's own.
with ours as (
    select c.shard
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = any(%(shards)s::integer[]) and c.owner = %(owner)s
    order by c.shard
    for share
)
delete from cos_skipped_events s
using ours, unnest(%(shards)s::integer[], %(offsets)s::bigint[]) as a (shard, reached)
where s.read_side = %(read_side)s
    and s.shard = ours.shard
    and a.shard = ours.shard
    and s.ordering > a.reached
