-- From now on the journal holds this change of types; answers with a row if it is the first to say so.
insert into cos_type_changes (old_type, new_type, grounds, entity_id, sequence_number)
values (%(old)s, %(new)s, %(grounds)s, %(entity_id)s, %(sequence_number)s)
on conflict do nothing
returning true
