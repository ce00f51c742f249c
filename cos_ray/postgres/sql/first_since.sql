-- The lowest place among the next events by date, so many of them; and how many there were, and with which
-- the next ones begin.
with dated as materialized (
    select write_timestamp, ordering
    from event_journal
    where (write_timestamp, ordering) > (%(date)s::bigint, %(place)s::bigint)
    order by write_timestamp, ordering
    limit %(limit)s::bigint
),
last as (
    select write_timestamp, ordering from dated offset %(limit)s::bigint - 1
)
select
    (select min(ordering) from dated),
    (select write_timestamp from last),
    (select ordering from last),
    (select ordering from event_journal order by ordering limit 1)
