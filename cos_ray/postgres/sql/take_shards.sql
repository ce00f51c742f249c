-- Take those of the shards that nobody has, or whose claim has run out; answers with them.
-- One that somebody asks for who is still there is left to them.
insert into cos_read_side_claims as c (read_side, shard, owner, generation, at_home, run, renewed_at, lasts)
select
    %(read_side)s, s.shard, %(owner)s, %(generation)s, %(at_home)s, %(run)s, clock_timestamp(),
    %(lasts)s::interval
from unnest(%(shards)s::integer[]) as s (shard)
order by s.shard
on conflict (read_side, shard) do update
set owner = excluded.owner,
    generation = excluded.generation,
    at_home = excluded.at_home,
    run = excluded.run,
    renewed_at = excluded.renewed_at,
    lasts = excluded.lasts,
    heir = null,
    heir_generation = null,
    heir_run = null,
    heir_until = null
where c.owner = excluded.owner
    or (
        c.renewed_at + c.lasts < clock_timestamp()
        and (c.heir is null or c.heir = excluded.owner or c.heir_until < clock_timestamp())
    )
returning c.shard
