-- Where the events begin that were stored at a time or later.
select cos_offset_at(%(moment)s)
