-- Where the journal begins and ends, to show how far an export has come.
select
    coalesce((select ordering from event_journal order by ordering limit 1), 0),
    coalesce((select ordering from event_journal order by ordering desc limit 1), 0)
