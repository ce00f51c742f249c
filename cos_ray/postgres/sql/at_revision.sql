-- The event after which an entity was at this revision; none if it has not come so far.
select sequence_number, event_payload
from event_journal
where persistence_id = %(entity_id)s and sequence_number = %(revision)s
