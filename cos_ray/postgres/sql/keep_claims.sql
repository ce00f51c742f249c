-- Keep one's claims alive; answers with their shards, and whether somebody asks for each.
-- Several rows are always locked in the order of their shards.
with mine as (
    select c.shard
    from cos_read_side_claims c
    where c.read_side = %(read_side)s and c.owner = %(owner)s
    order by c.shard
    for update
)
update cos_read_side_claims c
set renewed_at = clock_timestamp(), lasts = %(lasts)s::interval
from mine
where c.read_side = %(read_side)s and c.shard = mine.shard
returning c.shard, coalesce(c.heir_until > clock_timestamp(), false)
