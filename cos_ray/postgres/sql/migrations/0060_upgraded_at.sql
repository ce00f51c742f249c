-- Chief of State keeps the date of its migrations in milliseconds since 1970, in all its releases; we
-- made the column with a type of time once, into which its next migration could not write. The dates
-- stay. No one reads or writes this table but for a moment at a start, so the lock holds nobody up.
do $$
begin
    if (
        select atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)
        from pg_attribute
        where attrelid = 'cos_migrations'::regclass and attname = 'upgraded_at' and not attisdropped
    ) then
        alter table cos_migrations
            alter column upgraded_at type bigint using round(extract(epoch from upgraded_at) * 1000)::bigint;
    end if;
end
$$;
