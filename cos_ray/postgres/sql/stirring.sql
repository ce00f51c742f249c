-- Which of these shards have events after these offsets, or no longer have the one that was read last
-- (the places, entities, numbers and dates; all null where none is known). One look into an index for each.
select a.tag
from unnest(
    %(tags)s::text[], %(offsets)s::bigint[],
    %(known_offsets)s::bigint[], %(known_entities)s::text[], %(known_numbers)s::bigint[],
    %(known_written)s::bigint[]
) as a (tag, reached, known_offset, known_entity, known_number, known_written)
where exists (
    select
    from event_tag t
    where (t.tag, t.event_id) > (a.tag, a.reached) and (t.tag, t.event_id) <= (a.tag, 9223372036854775807)
) or not cos_has_event(a.known_offset, a.known_entity, a.known_number, a.known_written)
