-- What there is at the offsets after which a read side is to begin, shard by shard: the event there, if
-- there is one; up to where events were deleted, and which of these deletions the read side goes on in
-- spite of. And the end of the journal: the last place that was ever handed out.
select
    a.shard, j.ordering, j.persistence_id, j.sequence_number, j.write_timestamp,
    coalesce(d.up_to, 0), coalesce(l.up_to, 0), e.place
from unnest(%(shards)s::integer[], %(offsets)s::bigint[]) as a (shard, reached)
cross join (
    select greatest(
        coalesce((select ordering from event_journal order by ordering desc limit 1), 0),
        coalesce(pg_sequence_last_value(pg_get_serial_sequence('event_journal', 'ordering')::regclass), 0)
    ) as place
) e
left join event_journal j on j.ordering = a.reached
left join cos_deletions d on d.tag = a.shard::text
left join cos_read_side_losses l on l.read_side = %(read_side)s and l.shard = a.shard
