-- The idempotency keys of an entity that have not expired.
select key
from cos_idempotency_keys
where entity_id = %(entity_id)s and expires_at > clock_timestamp()
limit %(limit)s::bigint
