-- Which entities there are now.
insert into cos_entities (entity_id)
select distinct persistence_id from event_journal
on conflict do nothing
