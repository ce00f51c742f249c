-- Whether the server writes without flushing, so that a crash of its machine loses what was committed.
select current_setting('fsync') = 'off' or current_setting('full_page_writes') = 'off'
