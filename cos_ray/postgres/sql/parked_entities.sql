-- The entities of which events are set aside.
select distinct shard, entity_id from cos_dead_letters where read_side = %(read_side)s
