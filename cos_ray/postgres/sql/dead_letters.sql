-- The oldest dead letters of a read side.
select shard, ordering, sequence_number, event_payload, reason, failures, parked_at
from cos_dead_letters
where read_side = %(read_side)s
order by read_side, ordering
limit %(limit)s::bigint
