-- What an idempotency key led to, and the event that holds it.
select k.sequence_number, j.event_payload
from cos_idempotency_keys k
left join event_journal j on j.persistence_id = k.entity_id and j.sequence_number = k.sequence_number
where k.entity_id = %(entity_id)s and k.key = %(key)s and k.expires_at > clock_timestamp()
