-- Up to where events of a shard were deleted: the newest place that one was deleted from. A read side that
-- begins before it cannot see all that came after its offset. Deletions of an earlier release are not in it.
create table cos_deletions (
    tag varchar(256) primary key,
    up_to bigint not null
);

-- Which of those deletions a read side goes on in spite of, as a new one does, or as an operator said.
create table cos_read_side_losses (
    read_side varchar(255) not null,
    shard integer not null,
    up_to bigint not null,
    primary key (read_side, shard)
);

-- As before (see 0010_delete_events), and puts down from where.
create or replace function cos_delete_events(
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
        returning j.ordering
    ),
    put_down as (
        -- In the order of the tags: two who delete in several shards never wait for each other.
        insert into cos_deletions as d (tag, up_to)
        select t.tag, max(g.ordering)
        from deleted g
        join event_tag t on t.event_id = g.ordering
        group by t.tag
        order by t.tag
        on conflict (tag) do update set up_to = greatest(d.up_to, excluded.up_to)
    )
    select count(*) from deleted
$$;
