-- The primary key of event_tag leads with the event; a poll of one shard leads with the tag.
create index if not exists cos_event_tag_by_tag on event_tag (tag, event_id);
