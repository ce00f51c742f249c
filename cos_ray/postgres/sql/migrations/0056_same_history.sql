-- Whether the journal still holds an event as it was read: at the same place, of the same entity, with
-- the same number and date. False says that the history went back, as after a failover that lost its
-- newest events, or with a restored backup; places and numbers are given anew then. An event that was
-- deleted counts as held: only events that are not their entity's newest are ever deleted.
-- True where there is no place to ask about.
--
-- In PL/pgSQL, which plans once for each session; what is written in SQL and looks into tables is
-- planned anew for each statement before PostgreSQL 18.
create function cos_has_event(place bigint, entity text, number bigint, written bigint) returns boolean
language plpgsql stable as $$
declare
    there record;
begin
    if place is null then
        return true;
    end if;
    select j.persistence_id, j.sequence_number, j.write_timestamp into there
    from event_journal j
    where j.ordering = place;
    if found then
        return there.persistence_id = entity
            and there.sequence_number = number
            and there.write_timestamp is not distinct from written;
    end if;
    return not exists (
            select from event_journal j where j.persistence_id = entity and j.sequence_number = number
        )
        and exists (
            select from event_journal j where j.persistence_id = entity and j.sequence_number > number
        );
end
$$;
