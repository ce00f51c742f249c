-- The next event's ordering comes after all that were imported, and after any ever handed out.
select setval(
    pg_get_serial_sequence('event_journal', 'ordering'),
    greatest(
        (select max(ordering) from event_journal),
        nextval(pg_get_serial_sequence('event_journal', 'ordering'))
    )
)
