-- These events of an entity are handled after all; answers whether the shard is one's own: else nothing
-- is done.
with ours as (
    select 1
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = %(shard)s and c.owner = %(owner)s
    for share
),
forgotten as (
    delete from cos_skipped_events s
    using ours
    where s.read_side = %(read_side)s
        and s.entity_id = %(entity_id)s
        and s.sequence_number = any(%(sequence_numbers)s::bigint[])
)
select exists (select from ours)
