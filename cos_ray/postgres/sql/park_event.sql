-- Set an event aside; the first time counts. Answers whether the shard is one's own: else nothing is
-- done. As with offsets, the lock makes this and a claim to the shard wait for each other.
with ours as (
    select 1
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = %(shard)s and c.owner = %(owner)s
    for share
),
parked as (
    insert into cos_dead_letters
        (read_side, entity_id, sequence_number, shard, ordering, event_payload, reason, failures, parked_at)
    select
        %(read_side)s, %(entity_id)s, %(sequence_number)s, %(shard)s, %(ordering)s, %(payload)s, %(reason)s,
        %(failures)s, clock_timestamp()
    from ours
    on conflict do nothing
)
select exists (select from ours)
