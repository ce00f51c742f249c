-- Where the events are that were written since a time, in whatever order the clocks have dated them.
-- On a large journal this takes a while, and appends wait for it. Made before with `create index
-- concurrently`, it is found to be there (see deploy/journal.md). The functions `cos_place_before` and
-- `cos_offset_at`, which believed that dates rise with places, are left for an earlier release.
create index if not exists cos_event_journal_by_date on event_journal (write_timestamp, ordering);
