-- An entity's events from a sequence number on, in order, with their places.
select j.ordering, j.sequence_number, j.event_payload
from event_journal j
where j.persistence_id = %(entity_id)s and j.sequence_number >= %(first)s::bigint and not j.deleted
order by j.persistence_id, j.sequence_number
limit %(limit)s::bigint
