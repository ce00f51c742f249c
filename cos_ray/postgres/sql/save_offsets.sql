-- Keep how far a read side has come in these shards; answers with those that are one's own, and whether
-- the offset was saved: not where the journal no longer has the event that was read last (see stirring).
-- Only whoever has claimed a shard saves its offset. The lock makes a claim that is being made wait
-- for this, and this for the claim: whoever takes a shard over finds the last offset ever saved.
with ours as (
    select c.shard::text as shard
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = any(%(shards)s::integer[]) and c.owner = %(owner)s
    order by c.shard
    for share
),
known as (
    select
        o.shard::text as shard, o.reached,
        cos_has_event(o.known_offset, o.known_entity, o.known_number, o.known_written) as is_there
    from unnest(
        %(shards)s::integer[], %(offsets)s::text[],
        %(known_offsets)s::bigint[], %(known_entities)s::text[], %(known_numbers)s::bigint[],
        %(known_written)s::bigint[]
    ) as o (shard, reached, known_offset, known_entity, known_number, known_written)
    join ours on ours.shard = o.shard::text
    order by o.shard
),
saved as (
    insert into read_side_offsets
        (projection_name, projection_key, current_offset, manifest, mergeable, last_updated)
    select %(read_side)s, k.shard, k.reached, 'SEQ', false, (extract(epoch from clock_timestamp()) * 1000)::bigint
    from known k
    where k.is_there
    on conflict (projection_name, projection_key) do update
    set current_offset = excluded.current_offset,
        manifest = excluded.manifest,
        mergeable = excluded.mergeable,
        last_updated = excluded.last_updated
)
select k.shard, k.is_there from known k
