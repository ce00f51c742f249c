-- Take the locks of these shards, each held until the transaction ends, in rising order, so that
-- two who want several never wait for each other. Whoever allocates an `ordering` in a shard holds
-- its lock: within a shard, allocated, committed and visible are one and the same order.
create function cos_lock_shards(shards integer[]) returns void
language plpgsql as $$
declare
    namespace constant integer := hashtext('cos_ray ' || current_schema());
    wanted integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        -- An older snapshot would not show what others committed while we waited.
        raise exception 'cos_lock_shards needs the isolation level read committed';
    end if;
    for wanted in select distinct s from unnest(shards) s order by s loop
        perform pg_advisory_xact_lock(namespace, wanted);
    end loop;
end
$$;

-- Append events. The arrays run in parallel, one element per event; events of one append stand
-- together and in order, and share append number, shard, entity, expected and writer. An entity
-- occurs in one append only.
--
-- Each append lands whole or not at all, whatever becomes of the others. It lands if the entity's
-- newest sequence number is `expected`. Answers one row per append, in order:
--   L  landed
--   A  already there: the same writer stored the same bytes before
--   C  conflict: the entity is at another sequence number
-- with the ordering of the append's last event, null for C.
create function cos_append(
    append_numbers integer[],
    shards integer[],
    entity_ids text[],
    expecteds bigint[],
    sequence_numbers bigint[],
    writers text[],
    payloads bytea[]
) returns table (append_number integer, outcome text, last_ordering bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    landed bigint[];
    answer record;
begin
    perform cos_lock_shards(shards);

    with stored as (
        insert into event_journal (
            persistence_id, sequence_number, deleted, writer, write_timestamp,
            adapter_manifest, event_ser_id, event_ser_manifest, event_payload
        )
        select
            a.entity_id, a.sequence_number, false, a.writer,
            (extract(epoch from clock_timestamp()) * 1000)::bigint,
            '', 5001, 'chief_of_state.v1.EventWrapper', a.payload
        from unnest(entity_ids, expecteds, sequence_numbers, writers, payloads) with ordinality
            as a (entity_id, expected, sequence_number, writer, payload, place)
        where a.expected = coalesce(
            (
                select j.sequence_number
                from event_journal j
                where j.persistence_id = a.entity_id
                order by j.sequence_number desc
                limit 1
            ), 0)
        -- The sequence is asked after the sort: orderings rise from row to row.
        order by a.place
        -- Only for rows that came past our locks, from someone else's insert.
        on conflict do nothing
        returning ordering
    )
    select coalesce(array_agg(s.ordering order by s.ordering), '{}') into landed from stored s;

    if cardinality(landed) = cardinality(payloads) then
        -- All of them, as nearly always: the n-th ordering is the n-th event's.
        insert into event_tag (event_id, tag)
        select l.ordering, l.shard::text from unnest(landed, shards) as l (ordering, shard);
        return query
        select l.append_number, 'L', max(l.ordering)
        from unnest(append_numbers, landed) as l (append_number, ordering)
        group by l.append_number
        order by l.append_number;
        return;
    end if;

    insert into event_tag (event_id, tag)
    select j.ordering, a.shard::text
    from unnest(shards, entity_ids, sequence_numbers) as a (shard, entity_id, sequence_number)
    join event_journal j on j.persistence_id = a.entity_id and j.sequence_number = a.sequence_number
    where j.ordering = any(landed);

    for answer in
        select
            a.append_number as number,
            count(*) as events,
            count(*) filter (where j.ordering = any(landed)) as stored,
            count(*) filter (where j.writer = a.writer and j.event_payload = a.payload) as same,
            max(j.ordering) as last
        from unnest(append_numbers, entity_ids, sequence_numbers, writers, payloads)
            as a (append_number, entity_id, sequence_number, writer, payload)
        left join event_journal j
            on j.persistence_id = a.entity_id and j.sequence_number = a.sequence_number
        group by a.append_number
        order by a.append_number
    loop
        append_number := answer.number;
        last_ordering := answer.last;
        if answer.stored = answer.events then
            outcome := 'L';
        elsif answer.stored > 0 then
            raise exception 'append % landed in part', answer.number
                using errcode = 'serialization_failure';
        elsif answer.same = answer.events then
            outcome := 'A';
        else
            outcome := 'C';
            last_ordering := null;
        end if;
        return next;
    end loop;
end
$$;
