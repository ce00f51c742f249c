-- How many entities have events.
select count(distinct persistence_id) from event_journal
