-- The newest event, whether the journal still has the one that was read last, and who is writing in which
-- shard. The locks are looked at while the statement runs, that is, after the moment to which it sees the
-- journal: see cos_lock_shards.
select
    n.ordering, n.persistence_id, n.sequence_number, n.write_timestamp,
    cos_has_event(
        %(known_offset)s::bigint, %(known_entity)s::text, %(known_number)s::bigint, %(known_written)s::bigint
    ),
    array(
        select objid::bigint || ' ' || virtualtransaction
        from pg_locks
        where locktype = 'advisory'
            and objsubid = 2
            and granted
            and database = (select oid from pg_database where datname = current_database())
            and classid::bigint = hashtext('cos_ray ' || current_schema())::bigint & 4294967295
    )
from (select) as one
left join lateral (
    select ordering, persistence_id, sequence_number, write_timestamp
    from event_journal
    order by ordering desc
    limit 1
) n on true
