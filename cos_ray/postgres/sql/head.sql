-- The newest offset, and who is writing in which shard. The locks are looked at while the statement
-- runs, that is, after the moment to which it sees the journal: see cos_lock_shards.
select
    coalesce((select max(ordering) from event_journal), 0),
    array(
        select objid::bigint || ' ' || virtualtransaction
        from pg_locks
        where locktype = 'advisory'
            and objsubid = 2
            and granted
            and database = (select oid from pg_database where datname = current_database())
            and classid::bigint = hashtext('cos_ray ' || current_schema())::bigint & 4294967295
    )
