-- These events with their tags, in the order of the journal.
select
    j.ordering, j.persistence_id, j.sequence_number, j.event_payload,
    array(select t.tag from event_tag t where t.event_id = j.ordering order by t.tag) as tags,
    j.deleted, j.writer, j.write_timestamp, j.adapter_manifest, j.event_ser_id, j.event_ser_manifest,
    j.meta_ser_id, j.meta_ser_manifest, j.meta_payload
from event_journal j
where j.ordering = any(%(orderings)b::bigint[])
order by j.ordering
