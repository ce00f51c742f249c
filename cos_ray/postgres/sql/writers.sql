-- The transactions that have written to the journal and are not over yet.
select virtualtransaction, pid
from pg_locks
where locktype = 'relation'
    and database = (select oid from pg_database where datname = current_database())
    and relation = 'event_journal'::regclass
    and mode = 'RowExclusiveLock'
    and granted
    and pid <> pg_backend_pid()
