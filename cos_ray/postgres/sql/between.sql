-- Events of all shards after one offset and up to another, in order.
select ordering, persistence_id, sequence_number, event_payload
from event_journal
where ordering > %(after)s and ordering <= %(up_to)s and not deleted
order by ordering
limit %(limit)s
