-- Which entities there are, in the order of their ids' bytes, whatever the database's collation: a
-- row for each, from its first event on.
create table cos_entities (
    entity_id varchar(255) collate "C" primary key
);

-- Those of a journal that was there before: from each id to the next one, by the primary key.
insert into cos_entities (entity_id)
with recursive found (entity_id) as (
    (select persistence_id from event_journal order by persistence_id limit 1)
    union all
    select n.persistence_id
    from found f
    cross join lateral (
        select persistence_id from event_journal
        where persistence_id > f.entity_id
        order by persistence_id
        limit 1
    ) n
)
select entity_id from found;

-- As before (see 0002_append), and a first event enters its entity in the list.
create or replace function cos_append(
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
        if 1 = any (sequence_numbers) then
            insert into cos_entities (entity_id)
            select a.entity_id
            from unnest(entity_ids, sequence_numbers) as a (entity_id, sequence_number)
            where a.sequence_number = 1
            on conflict do nothing;
        end if;
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

    insert into cos_entities (entity_id)
    select a.entity_id
    from unnest(entity_ids, sequence_numbers) as a (entity_id, sequence_number)
    join event_journal j on j.persistence_id = a.entity_id and j.sequence_number = a.sequence_number
    where a.sequence_number = 1 and j.ordering = any(landed)
    on conflict do nothing;

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

-- The offset of the first event that was stored at that time (milliseconds since 1970) or later,
-- as well as clocks are kept; null if there is none. Offsets rise with time, so this halves its way.
create function cos_offset_at(moment bigint) returns bigint
language plpgsql stable as $$
declare
    low bigint;
    high bigint;
    middle bigint;
    found record;
begin
    select min(ordering), max(ordering) into low, high from event_journal;
    if high is null or (select write_timestamp from event_journal where ordering = high) < moment then
        return null;
    end if;
    while low < high loop
        middle := low + (high - low) / 2;
        select ordering, write_timestamp into found
        from event_journal where ordering >= middle order by ordering limit 1;
        if found.ordering >= high then
            -- Nothing between: the last one before tells.
            high := middle;
        elsif found.write_timestamp < moment then
            low := found.ordering + 1;
        else
            high := middle;
        end if;
    end loop;
    select ordering into low from event_journal where ordering >= low order by ordering limit 1;
    return low;
end
$$;
