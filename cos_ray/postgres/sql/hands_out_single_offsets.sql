-- Whether the journal's sequence keeps no block of numbers back for a session.
select seqcache = 1
from pg_sequence
where seqrelid = pg_get_serial_sequence('event_journal', 'ordering')::regclass
