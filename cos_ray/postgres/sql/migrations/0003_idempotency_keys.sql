-- What each idempotency key led to: the entity's newest event when its command was done, 0 if it
-- had none. Written in the transaction that stores the command's events.
create table cos_idempotency_keys (
    entity_id varchar(255) not null,
    key varchar(128) not null,
    sequence_number bigint not null,
    expires_at timestamptz not null,
    primary key (entity_id, key)
);

create index cos_idempotency_keys_by_expiry on cos_idempotency_keys (expires_at);

-- Append events, some of them with idempotency keys: `keys` has an append's key at its last event,
-- null elsewhere. An append without events has one row, with an empty payload, its key, and
-- `expected` for its sequence number. Keys are remembered for `ttl`.
--
-- Answers as `cos_append` does, or
--   K  the key is known: nothing was stored
-- An append without events lands if the entity is at `expected`; its ordering is null.
create function cos_append_with_keys(
    append_numbers integer[],
    shards integer[],
    entity_ids text[],
    expecteds bigint[],
    sequence_numbers bigint[],
    writers text[],
    payloads bytea[],
    keys text[],
    ttl interval
) returns table (append_number integer, outcome text, last_ordering bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    claimed text[];
    conflicts integer[] := '{}';
    answer record;
begin
    -- Keys come before the shards' locks, and in order, here as everywhere: two who want several of
    -- both never wait for each other. Who finds its key taken by another waits for that one's end.
    with stored as (
        insert into cos_idempotency_keys as s (entity_id, key, sequence_number, expires_at)
        select a.entity_id, a.key, a.sequence_number, clock_timestamp() + ttl
        from unnest(entity_ids, keys, sequence_numbers) as a (entity_id, key, sequence_number)
        where a.key is not null
        order by a.entity_id, a.key
        on conflict on constraint cos_idempotency_keys_pkey do update
        set sequence_number = excluded.sequence_number, expires_at = excluded.expires_at
        -- One that has expired and is still there.
        where s.expires_at <= clock_timestamp()
        returning s.entity_id
    )
    select coalesce(array_agg(s.entity_id), '{}') into claimed from stored s;

    if cardinality(claimed) = cardinality(array_remove(keys, null))
        and array_position(payloads, ''::bytea) is null
    then
        -- All keys are new and all appends have events, as nearly always.
        for append_number, outcome, last_ordering in
            select a.append_number, a.outcome, a.last_ordering
            from cos_append(append_numbers, shards, entity_ids, expecteds, sequence_numbers, writers, payloads) a
        loop
            if outcome = 'C' then
                conflicts := conflicts || append_number;
            end if;
            return next;
        end loop;
    else
        for append_number, outcome, last_ordering in
            select a.append_number, a.outcome, a.last_ordering
            from cos_append_some(
                append_numbers, shards, entity_ids, expecteds, sequence_numbers, writers, payloads,
                keys, claimed
            ) a
        loop
            if outcome = 'C' then
                conflicts := conflicts || append_number;
            end if;
            return next;
        end loop;
    end if;

    if cardinality(conflicts) > 0 then
        -- A conflict does not use up its key.
        delete from cos_idempotency_keys s
        using unnest(append_numbers, entity_ids, keys) as a (append_number, entity_id, key)
        where a.append_number = any(conflicts) and s.entity_id = a.entity_id and s.key = a.key;
    end if;
end
$$;

-- The part of `cos_append_with_keys` for appends whose key is known, or that have no events:
-- `claimed` has the entities whose key is new.
create function cos_append_some(
    append_numbers integer[],
    shards integer[],
    entity_ids text[],
    expecteds bigint[],
    sequence_numbers bigint[],
    writers text[],
    payloads bytea[],
    keys text[],
    claimed text[]
) returns table (append_number integer, outcome text, last_ordering bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    known text[] := array(
        select a.entity_id
        from unnest(entity_ids, keys) as a (entity_id, key)
        where a.key is not null and a.entity_id <> all (claimed)
    );
begin
    perform cos_lock_shards(shards);
    return query
    with asked as materialized (
        select *
        from unnest(append_numbers, shards, entity_ids, expecteds, sequence_numbers, writers, payloads)
            with ordinality
            as a (number, shard, entity_id, expected, sequence_number, writer, payload, place)
    ),
    events as materialized (
        select
            coalesce(array_agg(a.number order by a.place), '{}') as numbers,
            coalesce(array_agg(a.shard order by a.place), '{}') as shards,
            coalesce(array_agg(a.entity_id order by a.place), '{}') as entity_ids,
            coalesce(array_agg(a.expected order by a.place), '{}') as expecteds,
            coalesce(array_agg(a.sequence_number order by a.place), '{}') as sequence_numbers,
            coalesce(array_agg(a.writer order by a.place), '{}') as writers,
            coalesce(array_agg(a.payload order by a.place), '{}') as payloads
        from asked a
        where a.payload <> '' and a.entity_id <> all (known)
    ),
    answered as (
        select a.append_number as number, a.outcome, a.last_ordering
        from events e
        cross join lateral cos_append(
            e.numbers, e.shards, e.entity_ids, e.expecteds, e.sequence_numbers, e.writers, e.payloads
        ) a
        union all
        select
            a.number,
            case when a.expected = coalesce(
                (
                    select j.sequence_number
                    from event_journal j
                    where j.persistence_id = a.entity_id
                    order by j.sequence_number desc
                    limit 1
                ), 0) then 'L' else 'C' end,
            null
        from asked a
        where a.payload = '' and a.entity_id <> all (known)
        union all
        select distinct a.number, 'K', null::bigint
        from asked a
        where a.entity_id = any (known)
    )
    select a.number, a.outcome, a.last_ordering
    from answered a
    order by a.number;
end
$$;
