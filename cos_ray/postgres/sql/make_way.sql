-- Forget those dead letters of an entity that say something: it has come to its last event, and is
-- erased. Answers whether the shard is one's own (else nothing is done), and whether any is left.
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
        and substring(d.event_payload for 94) <> cos_erased_payload()
)
select exists (select from ours), exists (
    select from cos_dead_letters d
    where d.read_side = %(read_side)s
        and d.entity_id = %(entity_id)s
        and substring(d.event_payload for 94) = cos_erased_payload()
)
