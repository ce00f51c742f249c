-- The last event a command led to, among the entity's newest 5,000.
select n.sequence_number, n.event_payload
from (
    select sequence_number, writer, event_payload
    from event_journal
    where persistence_id = %(entity_id)s
    order by sequence_number desc
    limit 5000
) n
where n.writer = %(command_id)s
order by n.sequence_number desc
limit 1
