-- Remove what is kept beside the events, and put down when.
select erased_at, events from cos_finish_erasure(%(entity_id)s)
