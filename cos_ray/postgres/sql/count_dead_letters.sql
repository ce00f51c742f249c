-- How many dead letters a read side has in each shard.
select shard, count(*) from cos_dead_letters where read_side = %(read_side)s group by shard
