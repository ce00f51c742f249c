-- Delete the oldest events of these entities, at most `most` of each, up to and with `up_tos`, and
-- answer how many that were. Stays, whatever is asked for:
--   * an entity's newest event, from which it is recovered,
--   * what no snapshot of the entity covers, counting from the oldest one there is,
--   * what one of these read sides has yet to see, and everything after it,
--   * what a remembered idempotency key led to, and everything after it.
--
-- Runs with the rights of its owner: a service that may not delete from the journal may ask for
-- this, and for no more than this.
create function cos_delete_events(
    entity_ids text[], up_tos bigint[], read_sides text[], most integer
) returns bigint
language sql
security definer
set search_path from current
as $$
    with asked as (
        select
            a.entity_id,
            least(
                a.up_to,
                coalesce(
                    (select min(s.sequence_number) from state_snapshot s where s.persistence_id = a.entity_id), 0
                ),
                (select max(j.sequence_number) - 1 from event_journal j where j.persistence_id = a.entity_id),
                (
                    select min(k.sequence_number) - 1
                    from cos_idempotency_keys k
                    where k.entity_id = a.entity_id and k.sequence_number > 0 and k.expires_at > now()
                )
            ) as up_to
        from unnest(entity_ids, up_tos) as a (entity_id, up_to)
    ),
    oldest as (
        select j.persistence_id, j.sequence_number, j.ordering
        from asked a
        cross join lateral (
            select persistence_id, sequence_number, ordering
            from event_journal
            where persistence_id = a.entity_id and sequence_number <= a.up_to
            order by sequence_number
            limit most
        ) j
    ),
    judged as (
        select
            o.ordering,
            -- No hole in a history: what comes after an event that stays, stays.
            bool_and(
                not exists (
                    select
                    from event_tag t
                    cross join unnest(read_sides) as r (name)
                    left join read_side_offsets f on f.projection_name = r.name and f.projection_key = t.tag
                    where t.event_id = o.ordering
                        and case
                            when f.current_offset ~ '^[0-9]{1,19}$' then f.current_offset::numeric < o.ordering
                            else true
                        end
                )
            ) over (partition by o.persistence_id order by o.sequence_number) as is_dispensable
        from oldest o
    ),
    deleted as (
        delete from event_journal j
        using judged u
        where j.ordering = u.ordering and u.is_dispensable
        returning 1
    )
    select count(*) from deleted
$$;

revoke execute on function cos_delete_events(text[], bigint[], text[], integer) from public;
