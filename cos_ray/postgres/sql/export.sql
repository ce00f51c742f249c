-- Where the events lie that are exported, in the order of the journal, and how many bytes each has; a
-- parameter that is null leaves nothing out. Times are those at which rows were written, in milliseconds
-- since 1970.
select j.ordering, octet_length(j.event_payload) + coalesce(octet_length(j.meta_payload), 0)
from event_journal j
where (%(entity)s::text is null or j.persistence_id = %(entity)s::text)
    and (
        %(tag)s::text is null
        or exists (select from event_tag t where t.event_id = j.ordering and t.tag = %(tag)s::text)
    )
    and (%(since)s::bigint is null or j.write_timestamp >= %(since)s::bigint)
    and (%(until)s::bigint is null or j.write_timestamp < %(until)s::bigint)
order by j.ordering
