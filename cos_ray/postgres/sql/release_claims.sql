-- Give up one's claims to these shards: to whoever asks for one, else to whoever comes.
-- What was taken by a later run than the given one stays: this comes late.
with mine as (
    select c.shard, coalesce(c.heir_until > clock_timestamp(), false) as is_wanted
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.shard = any(%(shards)s::integer[]) and c.owner = %(owner)s
        and c.run <= coalesce(%(run)s::bigint, c.run)
    order by c.shard
    for update
),
handed_over as (
    update cos_read_side_claims c
    set owner = c.heir,
        generation = c.heir_generation,
        at_home = true,
        run = c.heir_run,
        renewed_at = clock_timestamp(),
        heir = null,
        heir_generation = null,
        heir_run = null,
        heir_until = null
    from mine
    where c.read_side = %(read_side)s and c.shard = mine.shard and mine.is_wanted
)
delete from cos_read_side_claims c
using mine
where c.read_side = %(read_side)s and c.shard = mine.shard and not mine.is_wanted
