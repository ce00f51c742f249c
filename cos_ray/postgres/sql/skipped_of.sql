-- Which events of an entity were stepped over.
select s.sequence_number from cos_skipped_events s
where s.read_side = %(read_side)s and s.entity_id = %(entity_id)s
