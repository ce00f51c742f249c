-- Set an event aside; answers P, or C or E (see 0050_erasure_lock), when nothing was done.
select cos_set_aside(
    %(read_side)s::text, %(entity_id)s::text, %(sequence_number)s::bigint, %(shard)s::integer,
    %(ordering)s::bigint, %(payload)b::bytea, %(reason)s::text, %(failures)s::integer, %(owner)s::text
)
