-- One of the newest events that has led its entity from a state of the one type to a state of the other.
select j.persistence_id, j.sequence_number
from (
    select persistence_id, sequence_number, event_payload
    from event_journal
    order by ordering desc
    limit %(newest)s
) j
cross join lateral (
    select p.event_payload
    from event_journal p
    where p.persistence_id = j.persistence_id and p.sequence_number = j.sequence_number - 1
) p
where cos_state_type(j.event_payload) = %(new)s and cos_state_type(p.event_payload) = %(old)s
limit 1
