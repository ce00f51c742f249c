-- Which of these rights our role lacks in a schema, in the order asked, and whether that is because the
-- object is not there. Also, as a right to be without, which tables have policies that apply to us.
-- A sequence is named by itself, or by the table whose serial column it feeds.
select
    w.kind,
    coalesce(c.relname::text, w.name),
    w.privilege,
    coalesce(s.oid, c.oid, p.oid) is null
from unnest(%(kinds)s::text[], %(names)s::text[], %(privileges)s::text[]) with ordinality
    as w (kind, name, privilege, place)
left join pg_namespace n on n.nspname = %(schema)s
left join pg_namespace s on w.kind = 'schema' and s.oid = n.oid
left join pg_class c on c.oid = case w.kind
    when 'table' then (select t.oid from pg_class t where t.relname = w.name and t.relnamespace = n.oid)
    when 'sequence' then coalesce(
        (select q.oid from pg_class q where q.relname = w.name and q.relnamespace = n.oid and q.relkind = 'S'),
        (
            select q.oid
            from pg_class t
            join pg_depend d
                on d.refclassid = 'pg_class'::regclass
                and d.refobjid = t.oid
                and d.classid = 'pg_class'::regclass
                and d.deptype in ('a', 'i')
            join pg_class q on q.oid = d.objid and q.relkind = 'S'
            where t.relname = w.name and t.relnamespace = n.oid
            limit 1
        )
    )
end
left join pg_proc p on w.kind = 'function' and p.proname = w.name and p.pronamespace = n.oid
where not coalesce(
    case w.kind
        when 'schema' then has_schema_privilege(s.oid, w.privilege)
        when 'table' then case w.privilege
            when 'row security' then not row_security_active(c.oid)
            else has_table_privilege(c.oid, w.privilege)
        end
        when 'sequence' then has_sequence_privilege(c.oid, w.privilege)
        when 'function' then has_function_privilege(p.oid, w.privilege)
    end,
    false)
order by w.place
