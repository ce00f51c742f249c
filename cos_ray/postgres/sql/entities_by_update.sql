-- The next events after an offset and up to another; of each, when it was stored, whether it is its entity's
-- newest up to there, and whether one of the entity's was stored since a time.
select
    j.ordering,
    j.persistence_id,
    j.write_timestamp,
    not exists (
        select from event_journal n
        where n.persistence_id = j.persistence_id
            and n.sequence_number > j.sequence_number
            and n.ordering <= %(up_to)s
    ) as is_newest,
    case
        when j.write_timestamp >= %(since)s then true
        -- Dated by a clock that was set back.
        else exists (
            select from event_journal e
            where e.persistence_id = j.persistence_id and e.ordering <= %(up_to)s and e.write_timestamp >= %(since)s
        )
    end as is_since
from (
    select ordering, persistence_id, sequence_number, write_timestamp
    from event_journal
    where ordering > %(after)s and ordering <= %(up_to)s
    order by ordering
    limit %(limit)s
) j
order by j.ordering
