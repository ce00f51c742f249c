-- Which of these entities are on record as erased, or as to be erased.
select e.entity_id from cos_erased_entities e where e.entity_id = any(%(entity_ids)s::text[])
