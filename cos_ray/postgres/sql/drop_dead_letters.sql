-- Forget one dead letter of an entity, or all; unless they are confirmed, they are stepped over by it.
-- Answers whether the shard is one's own (else nothing is done), and with how many those were.
with ours as (
    select 1
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = %(shard)s and c.owner = %(owner)s
    for share
),
dropped as (
    delete from cos_dead_letters d
    using ours
    where d.read_side = %(read_side)s
        and d.entity_id = %(entity_id)s
        and (%(sequence_number)s::bigint is null or d.sequence_number = %(sequence_number)s::bigint)
    returning d.read_side, d.entity_id, d.sequence_number, d.shard, d.ordering
),
skipped as (
    insert into cos_skipped_events (read_side, entity_id, sequence_number, shard, ordering, skipped_at)
    select d.*, clock_timestamp()
    from dropped d
    where not %(confirmed)s::boolean
    on conflict do nothing
)
select exists (select from ours), (select count(*) from dropped)
