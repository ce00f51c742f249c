-- Where an event lies.
select j.ordering from event_journal j
where j.persistence_id = %(entity_id)s and j.sequence_number = %(sequence_number)s::bigint
