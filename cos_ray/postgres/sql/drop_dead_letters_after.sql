-- Forget the dead letters of a shard that come after an offset, and what was stepped over there; answers
-- whether the shard is one's own: else nothing is done.
with ours as (
    select 1
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = %(shard)s and c.owner = %(owner)s
    for share
),
dropped as (
    delete from cos_dead_letters d
    using ours
    where d.read_side = %(read_side)s and d.ordering > %(ordering)s::bigint and d.shard = %(shard)s
),
forgotten as (
    delete from cos_skipped_events s
    using ours
    where s.read_side = %(read_side)s and s.shard = %(shard)s and s.ordering > %(ordering)s::bigint
)
select exists (select from ours)
