-- Whether an event is set aside, or was stepped over.
select
    exists (
        select from cos_dead_letters d
        where d.read_side = %(read_side)s
            and d.entity_id = %(entity_id)s
            and d.sequence_number = %(sequence_number)s::bigint
    )
    or exists (
        select from cos_skipped_events s
        where s.read_side = %(read_side)s
            and s.entity_id = %(entity_id)s
            and s.sequence_number = %(sequence_number)s::bigint
    )
