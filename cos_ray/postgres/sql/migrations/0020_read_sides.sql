-- Which process of a read side has which shard: whoever claimed it last. Without a claim no offset
-- is saved; one that is not renewed for a while may be taken over.
create table cos_read_side_claims (
    read_side varchar(255) not null,
    shard integer not null,
    owner varchar(255) not null,
    renewed_at timestamptz not null,
    primary key (read_side, shard)
) with (fillfactor = 50);

-- Events that a read side has set aside, with all there is to deliver them again: the journal may
-- have forgotten them by then. `ordering` is the event's place in the journal.
create table cos_dead_letters (
    read_side varchar(255) not null,
    entity_id varchar(255) not null,
    sequence_number bigint not null,
    shard integer not null,
    ordering bigint not null,
    event_payload bytea not null,
    reason text not null,
    failures integer not null,
    parked_at timestamptz not null,
    primary key (read_side, entity_id, sequence_number)
);

create index cos_dead_letters_by_place on cos_dead_letters (read_side, ordering);

-- The greatest place in a shard before which nothing lies that was stored since `since` (in ms, as
-- in write_timestamp). Found by halving: within a shard, places rise with time, as far as clocks do.
create function cos_place_before(shard text, since bigint) returns bigint
language plpgsql stable as $$
declare
    low bigint := 0;
    high bigint;
    middle bigint;
    place bigint;
    written bigint;
begin
    select max(t.event_id) into high from event_tag t where t.tag = shard;
    if high is null then
        return 0;
    end if;
    -- Everything up to `low` is older; what comes after `high` is not, or is nothing.
    while low < high loop
        middle := low + (high - low) / 2;
        select t.event_id, j.write_timestamp into place, written
        from event_tag t
        join event_journal j on j.ordering = t.event_id
        where (t.tag, t.event_id) > (shard, middle) and (t.tag, t.event_id) <= (shard, high)
        order by t.tag, t.event_id
        limit 1;
        if place is null then
            high := middle;
        elsif written >= since then
            high := middle;
        else
            low := place;
        end if;
    end loop;
    return low;
end
$$;
