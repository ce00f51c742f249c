-- Snapshots with what may be odd about them; no limit means all.
select
    s.persistence_id,
    s.sequence_number,
    s.snapshot_ser_id,
    s.snapshot_ser_manifest,
    s.snapshot_payload,
    not exists (
        select from event_journal j
        where j.persistence_id = s.persistence_id and j.sequence_number >= s.sequence_number
    )
from state_snapshot s
limit %(limit)s::bigint
