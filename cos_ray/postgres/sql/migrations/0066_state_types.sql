-- Which changes of a state's type the journal holds: an entity's state was of the one type, and after
-- its next event of the other. Changes that nobody declared, and that are not here, are refused.
create table cos_type_changes (
    old_type varchar(500) not null,
    new_type varchar(500) not null,
    -- Why it was let pass: declared, allowed, warned; held: it was there before anybody watched.
    grounds varchar(20) not null,
    -- An event that shows it; null where the journal was looked through for it.
    entity_id varchar(255),
    sequence_number bigint,
    noted_at timestamptz not null default now(),
    primary key (old_type, new_type)
);

-- Who has written to the journal beside cos_ray: 'chief_of_state', from the first start that finds it.
create table cos_journal_writers (
    writer varchar(50) primary key,
    noted_at timestamptz not null default now()
);

-- A varint of protobuf's at a place in some bytes, counted from 0, and the place after it; nulls where
-- there is none.
create function cos_varint(bytes bytea, place integer, out value bigint, out next integer)
language plpgsql immutable strict parallel safe
as $$
declare
    octet integer;
begin
    value := 0;
    next := place;
    for shift in 0..4 loop
        if next < 0 or next >= octet_length(bytes) then
            value := null;
            next := null;
            return;
        end if;
        octet := get_byte(bytes, next);
        next := next + 1;
        value := value | ((octet & 127)::bigint << (7 * shift));
        if octet < 128 then
            return;
        end if;
    end loop;
    value := null;
    next := null;
end
$$;

-- The full name of the type of the state in an EventWrapper, which has it after its event; null where
-- that cannot be read. Looks at a few hundred bytes, however long the event and the state are.
create function cos_state_type(payload bytea) returns text
language plpgsql immutable strict parallel safe
as $$
declare
    piece bytea := substring(payload for 6);
    start bigint := 0;
    place record;
begin
    if octet_length(piece) > 0 and get_byte(piece, 0) = 10 then
        place := cos_varint(piece, 1);
        start := place.next + place.value;
    end if;
    -- substring counts in integers; none of ours is longer.
    if start is null or start > 1000000000 then
        return null;
    end if;
    piece := substring(payload from start::integer + 1 for 600);
    -- Field 2, the state; in it field 1, the type URL.
    if octet_length(piece) = 0 or get_byte(piece, 0) <> 18 then
        return null;
    end if;
    place := cos_varint(piece, 1);
    if place.next is null or place.next >= octet_length(piece) or get_byte(piece, place.next) <> 10 then
        return null;
    end if;
    place := cos_varint(piece, place.next + 1);
    if place.next is null or place.next + place.value > octet_length(piece) then
        return null;
    end if;
    -- Bytes that are no ASCII come out as what no type is called.
    return substring(encode(substring(piece from place.next + 1 for place.value::integer), 'escape') from '[^/]*$');
end
$$;
