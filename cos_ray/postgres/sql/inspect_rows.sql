-- Events with all that may be odd about them, the newest first; no limit means all of them.
select
    j.ordering,
    j.persistence_id,
    j.sequence_number,
    j.deleted,
    j.adapter_manifest,
    j.event_ser_id,
    j.event_ser_manifest,
    j.event_payload,
    j.meta_ser_id is not null or j.meta_ser_manifest is not null or j.meta_payload is not null,
    array(select t.tag::text from event_tag t where t.event_id = j.ordering order by t.tag),
    case
        when j.sequence_number = 1 then 'first'
        when exists (
            select from event_journal p
            where p.persistence_id = j.persistence_id and p.sequence_number = j.sequence_number - 1
        ) then 'next'
        when exists (
            select from event_journal p
            where p.persistence_id = j.persistence_id and p.sequence_number < j.sequence_number
        ) then 'gap'
        else 'cut'
    end
from (select * from event_journal order by ordering desc limit %(limit)s::bigint) j
order by j.ordering desc
