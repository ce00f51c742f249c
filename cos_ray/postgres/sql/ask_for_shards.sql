-- Ask for these shards of one's own, where that counts more than who has them and who asked before.
with theirs as (
    select c.shard
    from cos_read_side_claims c
    where c.read_side = %(read_side)s
        and c.shard = any(%(shards)s::integer[])
        and c.owner <> %(owner)s
        and (c.generation, c.at_home, c.run) < (%(generation)s::bigint, true, %(run)s::bigint)
        and (
            c.heir is null
            or c.heir_until < clock_timestamp()
            or (c.heir_generation, c.heir_run) <= (%(generation)s::bigint, %(run)s::bigint)
        )
    order by c.shard
    for update
)
update cos_read_side_claims c
set heir = %(owner)s,
    heir_generation = %(generation)s,
    heir_run = %(run)s,
    heir_until = clock_timestamp() + %(lasts)s::interval
from theirs
where c.read_side = %(read_side)s and c.shard = theirs.shard
