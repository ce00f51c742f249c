-- The next events after an offset, and of each whether it is its entity's newest and when it was stored.
select j.ordering, j.persistence_id, j.write_timestamp, not exists (
    select from event_journal n
    where n.persistence_id = j.persistence_id and n.sequence_number > j.sequence_number
) as is_newest
from (
    select ordering, persistence_id, sequence_number, write_timestamp
    from event_journal
    where ordering > %(after)s
    order by ordering
    limit %(limit)s
) j
order by j.ordering
