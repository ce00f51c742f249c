-- The oldest dead letters of an entity.
select shard, ordering, sequence_number, event_payload, reason, failures, parked_at
from cos_dead_letters
where read_side = %(read_side)s and entity_id = %(entity_id)s
order by read_side, entity_id, sequence_number
limit %(limit)s::bigint
