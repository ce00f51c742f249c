-- An entity's events from one on, up to an offset, in order.
select ordering, persistence_id, sequence_number, event_payload
from event_journal
where persistence_id = %(entity_id)s
    and sequence_number >= %(first)s
    and ordering <= %(up_to)s
    and not deleted
order by sequence_number
limit %(limit)s
