-- Save states, of each entity one, and let go of its older snapshots but the newest ones. The state of an
-- event that the journal does not have (any more, after a failover that lost it) is not saved.
-- A snapshot that is there already can only be that of a history which a restored backup has lost.
with asked as materialized (
    select entity_id, sequence_number, payload
    from unnest(
        %(entity_ids)s::text[], %(sequence_numbers)s::bigint[], %(payloads)b::bytea[], %(writers)s::text[]
    ) as a (entity_id, sequence_number, payload, writer)
    where not exists (select from cos_erased_entities e where e.entity_id = a.entity_id)
        and exists (
            select from event_journal j
            where j.persistence_id = a.entity_id
                and j.sequence_number = a.sequence_number
                and j.writer = a.writer
        )
),
saved as (
    insert into state_snapshot
        (persistence_id, sequence_number, created, snapshot_ser_id, snapshot_ser_manifest, snapshot_payload)
    select
        entity_id, sequence_number, (extract(epoch from clock_timestamp()) * 1000)::bigint,
        5001, 'chief_of_state.v1.StateWrapper', payload
    from asked
    order by entity_id
    on conflict (persistence_id, sequence_number) do update
    set created = excluded.created,
        snapshot_ser_id = excluded.snapshot_ser_id,
        snapshot_ser_manifest = excluded.snapshot_ser_manifest,
        snapshot_payload = excluded.snapshot_payload,
        meta_ser_id = null,
        meta_ser_manifest = null,
        meta_payload = null
)
-- The new one cannot be seen here yet: of those before it, one fewer is kept.
delete from state_snapshot s
using asked a
where s.persistence_id = a.entity_id
    and s.sequence_number <= (
        select o.sequence_number
        from state_snapshot o
        where o.persistence_id = a.entity_id and o.sequence_number < a.sequence_number
        order by o.sequence_number desc
        offset %(keep)s::integer - 1
        limit 1
    )
