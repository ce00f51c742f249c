-- An entity's events before one of them, the newest first, that were stored no later than a moment.
select sequence_number, event_payload
from event_journal
where persistence_id = %(entity_id)s
    and sequence_number < %(before)s
    and write_timestamp <= %(moment)s
    and not deleted
order by sequence_number desc
limit %(limit)s
