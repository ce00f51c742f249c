-- Put down that an event is stepped over; answers whether the shard is one's own: else nothing is done.
with ours as (
    select 1
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = %(shard)s and c.owner = %(owner)s
    for share
),
skipped as (
    insert into cos_skipped_events (read_side, entity_id, sequence_number, shard, ordering, skipped_at)
    select
        %(read_side)s, %(entity_id)s, %(sequence_number)s, %(shard)s, %(ordering)s, clock_timestamp()
    from ours
    on conflict do nothing
)
select exists (select from ours)
