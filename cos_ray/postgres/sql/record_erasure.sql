-- Put down that an entity is to be erased; what is on record already stays.
insert into cos_erased_entities (entity_id, caller, reason)
values (%(entity_id)s, %(caller)s, %(reason)s)
on conflict (entity_id) do nothing
