-- Let these events say nothing any more.
select cos_redact(%(entity_id)s, %(sequence_numbers)s::bigint[], %(payloads)b::bytea[])
