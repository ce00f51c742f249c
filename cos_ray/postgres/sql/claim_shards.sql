-- Take these shards, whoever has them.
insert into cos_read_side_claims (read_side, shard, owner, renewed_at)
select %(read_side)s, s.shard, %(owner)s, clock_timestamp()
from unnest(%(shards)s::integer[]) as s (shard)
order by s.shard
on conflict (read_side, shard) do update set owner = excluded.owner, renewed_at = excluded.renewed_at
