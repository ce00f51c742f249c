-- Whether the journal's first or last event is Chief of State's: there the writer is a UUID with
-- hyphens, with us never.
select exists (
    select
    from (
        (select writer from event_journal order by ordering limit 1)
        union all
        (select writer from event_journal order by ordering desc limit 1)
    ) ends
    where writer ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
)
