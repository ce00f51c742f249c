-- The events at these offsets, after which a read side is to begin, as far as there are any; and the end of
-- the journal: the last place that was ever handed out.
select a.shard, j.ordering, j.persistence_id, j.sequence_number, j.write_timestamp, e.place
from unnest(%(shards)s::integer[], %(offsets)s::bigint[]) as a (shard, reached)
cross join (
    select greatest(
        coalesce((select ordering from event_journal order by ordering desc limit 1), 0),
        coalesce(pg_sequence_last_value(pg_get_serial_sequence('event_journal', 'ordering')::regclass), 0)
    ) as place
) e
left join event_journal j on j.ordering = a.reached
