-- What is on record of an entity's erasure.
select erased_at, events from cos_erased_entities where entity_id = %(entity_id)s
