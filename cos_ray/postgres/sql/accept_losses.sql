-- A read side goes on in these shards in spite of what was deleted up to these places.
insert into cos_read_side_losses as l (read_side, shard, up_to)
select %(read_side)s, a.shard, a.up_to
from unnest(%(shards)s::integer[], %(up_tos)s::bigint[]) as a (shard, up_to)
order by a.shard
on conflict (read_side, shard) do update set up_to = greatest(l.up_to, excluded.up_to)
