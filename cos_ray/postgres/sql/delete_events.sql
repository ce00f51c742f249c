-- Delete the oldest events of these entities, each up to its sequence number; the rules, and what
-- is left all the same, are in the function. Answers how many were deleted.
select cos_delete_events(
    %(entity_ids)s::text[], %(up_tos)s::bigint[], %(read_sides)s::text[], %(most)s::integer
)
