-- How much there is, counted up to a limit (none: to the end), and as the planner believes it.
select
    (select count(*) from (select from event_journal limit %(limit)s::bigint) r),
    (select coalesce(max(ordering), 0) from event_journal),
    (select greatest(reltuples, 0)::bigint from pg_class where oid = 'event_journal'::regclass),
    (select count(*) from state_snapshot),
    (select count(distinct persistence_id) from state_snapshot)
