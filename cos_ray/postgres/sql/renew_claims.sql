-- Keep one's claims alive, and take over those that are not; answers with all that are one's own.
insert into cos_read_side_claims as c (read_side, shard, owner, renewed_at)
select %(read_side)s, s.shard, %(owner)s, clock_timestamp()
from unnest(%(shards)s::integer[]) as s (shard)
order by s.shard
on conflict (read_side, shard) do update set owner = excluded.owner, renewed_at = excluded.renewed_at
where c.owner = excluded.owner or c.renewed_at < clock_timestamp() - %(silence)s::interval
returning c.shard
