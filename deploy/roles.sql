-- Two roles for one schema: an owner, who may change it, and a runtime role for `cos-ray serve`,
-- which may append to the journal but neither change nor delete what is in it.
--
--   1. Set the three names below. For a database taken over from Chief of State, the owner is the
--      role that owns its tables.
--   2. Run this file as a superuser. It makes what is missing: the roles, the schema.
--   3. Run `cos-ray journal migrate` with COS_DB_USER set to the owner.
--   4. Run this file again: now there are tables to grant rights on. Do 3 and 4 with every new
--      version of cos_ray, before it is started.
--
-- It may be run as often as one likes. Give the roles passwords: alter role ... password '...'.

select
    set_config('cos_ray.schema', 'public', false),
    set_config('cos_ray.owner', 'cos_owner', false),
    set_config('cos_ray.runtime', 'cos_runtime', false);

do $$
declare
    schema constant text := current_setting('cos_ray.schema');
    owner constant text := current_setting('cos_ray.owner');
    runtime constant text := current_setting('cos_ray.runtime');
    wanted text;
    found record;
begin
    foreach wanted in array array[owner, runtime] loop
        if to_regrole(quote_ident(wanted)) is null then
            execute format('create role %I login', wanted);
        end if;
    end loop;
    if to_regnamespace(quote_ident(schema)) is null then
        execute format('create schema %I authorization %I', schema, owner);
    end if;
    execute format('grant usage, create on schema %I to %I', schema, owner);
    execute format('grant usage on schema %I to %I', schema, runtime);

    for found in
        select c.relname as name, c.relkind as kind
        from pg_class c
        where c.relnamespace = to_regnamespace(quote_ident(schema)) and c.relkind in ('r', 'S')
    loop
        wanted := case
            -- The journal: to add to and to read. What is there stays as it is.
            when found.name in ('event_journal', 'event_tag') then 'select, insert'
            when found.kind = 'S' and found.name = 'event_journal_ordering_seq' then 'usage'
            -- Which steps were taken; the owner takes them.
            when found.name in ('cos_migrations', 'cos_ray_migrations') then 'select'
            -- Up to where events were deleted; kept by the function that deletes them.
            when found.name = 'cos_deletions' then 'select'
            -- Kept up to date while the service runs, and no part of the truth.
            when found.name in ('state_snapshot', 'read_side_offsets', 'read_sides')
                then 'select, insert, update, delete'
            -- The record of what was erased; the rest of it is written by a function.
            when found.name = 'cos_erased_entities' then 'select, insert'
            -- What cos_ray keeps beside the journal.
            when found.kind = 'r' and found.name like 'cos\_%' then 'select, insert, update, delete'
            when found.kind = 'S' and found.name like 'cos\_%' then 'usage'
        end;
        if wanted is not null then
            execute format(
                'grant %s on %s %I.%I to %I', wanted,
                case found.kind when 'S' then 'sequence' else 'table' end, schema, found.name, runtime
            );
        end if;
    end loop;

    -- Our functions. cos_delete_events and those of erasure run with the owner's rights, within rules of its own.
    for found in
        select p.oid::regprocedure as signature
        from pg_proc p
        where p.pronamespace = to_regnamespace(quote_ident(schema)) and p.proname like 'cos\_%'
    loop
        execute format('grant execute on function %s to %I', found.signature, runtime);
    end loop;
end
$$;
