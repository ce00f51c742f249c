-- How many events an entity has up to an offset, and which are the first and the last of them.
select count(*), min(sequence_number), max(sequence_number)
from event_journal
where persistence_id = %(entity_id)s and ordering <= %(up_to)s::bigint and not deleted
