-- Set an event aside; the first time counts.
insert into cos_dead_letters
    (read_side, entity_id, sequence_number, shard, ordering, event_payload, reason, failures, parked_at)
values (
    %(read_side)s, %(entity_id)s, %(sequence_number)s, %(shard)s, %(ordering)s, %(payload)s, %(reason)s,
    %(failures)s, clock_timestamp()
)
on conflict do nothing
