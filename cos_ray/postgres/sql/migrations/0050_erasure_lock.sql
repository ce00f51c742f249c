-- What an erased entity's events said must not come back: not from a process that still has it in
-- memory, and not by a statement that began before the erasure and was held up. So whoever keeps a
-- copy of an event or a state takes the entity's lock first, and looks only then whether an erasure
-- is on record; whoever puts one on record takes the same lock alone.

-- Take these entities' locks, held until the transaction ends: alone, or shared with others who do
-- not want them alone. In rising order, so that two who want several never wait for each other.
create function cos_lock_entities(entity_ids text[], alone boolean) returns void
language plpgsql as $$
declare
    namespace constant integer := hashtext('cos_ray entities of ' || current_schema());
    wanted integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        -- An older snapshot would not show what others committed while we waited.
        raise exception 'cos_lock_entities needs the isolation level read committed';
    end if;
    for wanted in select distinct hashtext(e) as h from unnest(entity_ids) e order by h loop
        if alone then
            perform pg_advisory_xact_lock(namespace, wanted);
        else
            perform pg_advisory_xact_lock_shared(namespace, wanted);
        end if;
    end loop;
end
$$;

-- Put down that an entity is to be erased; what is on record already stays. Whoever kept a copy of
-- what its events said has done so by then, and nobody does from then on. Answers how long it has been
-- on record, in seconds.
create function cos_record_erasure(entity text, asked_by text, why text) returns double precision
language plpgsql as $$
begin
    perform cos_lock_entities(array[entity], true);
    insert into cos_erased_entities (entity_id, asked_at, caller, reason)
    values (entity, clock_timestamp(), asked_by, why)
    on conflict do nothing;
    return (
        select extract(epoch from clock_timestamp() - e.asked_at)
        from cos_erased_entities e
        where e.entity_id = entity
    );
end
$$;

-- Set an event of a read side aside; once is enough. Answers
--   P  it is set aside
--   C  the shard is somebody else's by now: nothing was done
--   E  the event says what it must not say any more, for its entity is erased: nothing was done
-- As with offsets, the row lock makes this and a claim to the shard wait for each other.
create function cos_set_aside(
    of_read_side text,
    of_entity text,
    number bigint,
    in_shard integer,
    place bigint,
    payload bytea,
    because text,
    tries integer,
    by_owner text
) returns text
language plpgsql as $$
begin
    perform cos_lock_entities(array[of_entity], false);
    perform
    from cos_read_side_claims c
    where c.read_side = of_read_side and c.shard = in_shard and c.owner = by_owner
    for share;
    if not found then
        return 'C';
    end if;
    if substring(payload for 94) <> cos_erased_payload()
        and exists (select from cos_erased_entities e where e.entity_id = of_entity)
    then
        return 'E';
    end if;
    insert into cos_dead_letters as d
        (read_side, entity_id, sequence_number, shard, ordering, event_payload, reason, failures, parked_at)
    values (of_read_side, of_entity, number, in_shard, place, payload, because, tries, clock_timestamp())
    on conflict (read_side, entity_id, sequence_number) do update
    set event_payload = excluded.event_payload,
        reason = excluded.reason,
        failures = excluded.failures,
        parked_at = excluded.parked_at
    -- The older one is about to be removed.
    where substring(excluded.event_payload for 94) = cos_erased_payload()
        and substring(d.event_payload for 94) <> cos_erased_payload();
    return 'P';
end
$$;

-- Save states, of each entity one, and let go of its older snapshots but the newest ones. The state of an
-- event that the journal does not have (any more, after a failover that lost it) is not saved.
-- A snapshot that is there already can only be that of a history which a restored backup has lost.
create function cos_save_snapshots(
    entity_ids text[], sequence_numbers bigint[], payloads bytea[], writers text[], keep integer
) returns void
language plpgsql as $$
#variable_conflict use_column
begin
    perform cos_lock_entities(entity_ids, false);

    with asked as materialized (
        select entity_id, sequence_number, payload
        from unnest(entity_ids, sequence_numbers, payloads, writers)
            as a (entity_id, sequence_number, payload, writer)
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
            offset keep - 1
            limit 1
        );
end
$$;

-- As before (see 0031_erasure), but a dead letter that says nothing stays: it may be the entity's last
-- event, of which its read side has yet to hear.
create or replace function cos_finish_erasure(entity text)
returns table (erased_at timestamptz, events bigint)
language plpgsql
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    if not exists (select from cos_erased_entities e where e.entity_id = entity) then
        return;
    end if;
    delete from state_snapshot where persistence_id = entity;
    delete from cos_idempotency_keys where entity_id = entity;
    delete from cos_dead_letters
    where entity_id = entity and substring(event_payload for 94) <> cos_erased_payload();
    update cos_erased_entities e
    set erased_at = clock_timestamp(),
        events = (select count(*) from event_journal j where j.persistence_id = entity)
    where e.entity_id = entity and e.erased_at is null;
    return query
    select e.erased_at, e.events from cos_erased_entities e where e.entity_id = entity;
end
$$;
