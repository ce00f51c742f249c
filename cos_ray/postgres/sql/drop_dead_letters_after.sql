-- Forget the dead letters of a shard that come after an offset.
delete from cos_dead_letters
where read_side = %(read_side)s and ordering > %(ordering)s::bigint and shard = %(shard)s
