-- Which tables of a schema the server empties when it crashes.
select c.relname::text
from pg_class c
where c.relnamespace = to_regnamespace(%(schema)s)
    and c.relname = any(%(tables)s::text[])
    and c.relpersistence = 'u'
order by 1
