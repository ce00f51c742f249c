-- The transactions that have written to the journal, or taken a number of its sequence, and are not
-- over yet. One that is prepared for a commit in two phases has no process.
select virtualtransaction, pid
from pg_locks
where locktype = 'relation'
    and database = (select oid from pg_database where datname = current_database())
    and relation in (
        'event_journal'::regclass,
        'event_tag'::regclass,
        pg_get_serial_sequence('event_journal', 'ordering')::regclass
    )
    and mode = 'RowExclusiveLock'
    and granted
    and pid is distinct from pg_backend_pid()
