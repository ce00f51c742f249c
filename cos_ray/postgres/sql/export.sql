-- Events with their tags, in the order of the journal; a parameter that is null leaves nothing out.
-- Times are those at which rows were written, in milliseconds since 1970.
select
    j.ordering, j.persistence_id, j.sequence_number, j.event_payload,
    array(select t.tag from event_tag t where t.event_id = j.ordering order by t.tag) as tags,
    j.deleted, j.writer, j.write_timestamp, j.adapter_manifest, j.event_ser_id, j.event_ser_manifest,
    j.meta_ser_id, j.meta_ser_manifest, j.meta_payload
from event_journal j
where (%(entity)s::text is null or j.persistence_id = %(entity)s::text)
    and (
        %(tag)s::text is null
        or exists (select from event_tag t where t.event_id = j.ordering and t.tag = %(tag)s::text)
    )
    and (%(since)s::bigint is null or j.write_timestamp >= %(since)s::bigint)
    and (%(until)s::bigint is null or j.write_timestamp < %(until)s::bigint)
order by j.ordering
