-- Which entities were erased, on whose demand, and when.
create table cos_erased_entities (
    entity_id varchar(255) primary key,
    asked_at timestamptz not null default now(),
    caller varchar(255),
    reason varchar(1000) not null,
    -- When nothing was left of what its events said; null while there may be.
    erased_at timestamptz,
    events bigint
);

-- How the payload of an event begins that says no more than that its entity is erased: an EventWrapper
-- with cos_ray.v1.EntityErased for its event and its state.
create function cos_erased_payload() returns bytea
language sql immutable
as $$
    select decode(
        '0a2d0a2b747970652e676f6f676c65617069732e636f6d2f636f735f7261792e76312e456e74697479457261736564'
        || '122d0a2b747970652e676f6f676c65617069732e636f6d2f636f735f7261792e76312e456e74697479457261736564',
        'hex'
    )
$$;

-- Put payloads that say nothing into the place of an entity's own, and no others. Only for an entity
-- that has come to such an event, and is on record as to be erased. Runs with the rights of its owner:
-- the service may not change what is in the journal, but for this.
create function cos_redact(entity text, sequence_numbers bigint[], payloads bytea[]) returns bigint
language sql
security definer
set search_path from current
as $$
    with newest as (
        select event_payload
        from event_journal
        where persistence_id = entity
        order by sequence_number desc
        limit 1
    ),
    redacted as (
        update event_journal j
        set event_payload = r.payload, meta_ser_id = null, meta_ser_manifest = null, meta_payload = null
        from unnest(sequence_numbers, payloads) as r (sequence_number, payload), newest n
        where j.persistence_id = entity
            and j.sequence_number = r.sequence_number
            and substring(r.payload for 94) = cos_erased_payload()
            and substring(n.event_payload for 94) = cos_erased_payload()
            and exists (select from cos_erased_entities e where e.entity_id = entity)
        returning 1
    )
    select count(*) from redacted
$$;

revoke execute on function cos_redact(text, bigint[], bytea[]) from public;

-- Remove what is kept of an entity beside its events, and put down that it is erased.
create function cos_finish_erasure(entity text) returns table (erased_at timestamptz, events bigint)
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
    if to_regclass('cos_dead_letters') is not null then
        execute 'delete from cos_dead_letters where entity_id = $1' using entity;
    end if;
    update cos_erased_entities e
    set erased_at = clock_timestamp(),
        events = (select count(*) from event_journal j where j.persistence_id = entity)
    where e.entity_id = entity and e.erased_at is null;
    return query
    select e.erased_at, e.events from cos_erased_entities e where e.entity_id = entity;
end
$$;

revoke execute on function cos_finish_erasure(text) from public;
