-- Forget one dead letter of an entity, or all; answers with a row for each.
delete from cos_dead_letters
where read_side = %(read_side)s
    and entity_id = %(entity_id)s
    and (%(sequence_number)s::bigint is null or sequence_number = %(sequence_number)s::bigint)
returning 1
