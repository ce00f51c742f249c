-- Their tags.
copy event_tag (event_id, tag) from stdin (format binary)
