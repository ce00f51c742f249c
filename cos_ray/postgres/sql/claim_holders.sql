-- Who has these shards.
select distinct c.owner
from cos_read_side_claims c
where c.read_side = %(read_side)s and c.shard = any(%(shards)s::integer[])
