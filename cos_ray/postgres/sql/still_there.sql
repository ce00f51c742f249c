-- Which of these events the journal still has, by their places.
select a.place
from unnest(%(known_offsets)s::bigint[], %(known_entities)s::text[], %(known_numbers)s::bigint[],
    %(known_written)s::bigint[]) as a (place, entity, number, written)
where cos_has_event(a.place, a.entity, a.number, a.written)
