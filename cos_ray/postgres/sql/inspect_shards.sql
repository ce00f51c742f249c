-- How many events each shard has.
select tag, count(*) from event_tag group by tag
