-- Put down that an entity is to be erased; what is on record already stays. Answers how long it has
-- been there, in seconds.
select cos_record_erasure(%(entity_id)s::text, %(caller)s::text, %(reason)s::text)
