-- The sequence that hands out offsets: what it is like, the last one it handed out, and the newest in
-- use. No row where the column has none of its own; no last one where we may not ask for it.
select
    s.seqcache,
    s.seqincrement,
    s.seqcycle,
    case
        when has_sequence_privilege(s.seqrelid, 'usage') or has_sequence_privilege(s.seqrelid, 'select')
        then coalesce(pg_sequence_last_value(s.seqrelid), 0)
    end,
    coalesce((select max(ordering) from event_journal), 0),
    s.seqrelid::regclass::text
from pg_sequence s
where s.seqrelid = pg_get_serial_sequence('event_journal', 'ordering')::regclass
