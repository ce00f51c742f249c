-- An entity's events from one on, in order.
select sequence_number, event_payload
from event_journal
where persistence_id = %(entity_id)s and sequence_number >= %(first)s
order by sequence_number
limit %(limit)s
