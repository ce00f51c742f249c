-- Shards of read sides are handed over from one process to the next. A claim says how much it counts
-- (generation, at_home, run: compared in this order), how long it lasts without being renewed, and who
-- has asked for the shard (the heir, until when). A version that knows nothing of all this claims for
-- the 15 seconds it always did, counts least, and hands nothing over.
alter table cos_read_side_claims
    add column generation bigint not null default 0,
    add column at_home boolean not null default true,
    add column run bigint not null default 0,
    add column lasts interval not null default interval '15 seconds',
    add column heir varchar(255),
    add column heir_generation bigint,
    add column heir_run bigint,
    add column heir_until timestamptz;

-- The releases that have run read sides, numbered as they came.
create table cos_read_side_releases (
    release varchar(255) primary key,
    generation bigint generated always as identity
);

-- Numbers every run of a read side.
create sequence cos_read_side_runs as bigint;
