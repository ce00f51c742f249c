-- Chief of State's tables at its version 6, column by column. Ours to fill, not to change.

-- The journal: one row per event. `ordering` is the offset read sides go by.
create table if not exists event_journal (
    ordering bigserial,
    persistence_id varchar(255) not null,
    sequence_number bigint not null,
    deleted boolean default false not null,
    writer varchar(255) not null,
    write_timestamp bigint,
    adapter_manifest varchar(255),
    event_ser_id integer not null,
    event_ser_manifest varchar(255) not null,
    event_payload bytea not null,
    meta_ser_id integer,
    meta_ser_manifest varchar(255),
    meta_payload bytea,
    primary key (persistence_id, sequence_number)
);

create unique index if not exists event_journal_ordering_idx on event_journal (ordering);

-- Which shard an event belongs to: one row per event, the tag is the shard's number.
create table if not exists event_tag (
    event_id bigint,
    tag varchar(256),
    primary key (event_id, tag),
    constraint fk_event_journal foreign key (event_id) references event_journal (ordering) on delete cascade
);

-- Saved states, for Chief of State to start from.
create table if not exists state_snapshot (
    persistence_id varchar(255) not null,
    sequence_number bigint not null,
    created bigint not null,
    snapshot_ser_id integer not null,
    snapshot_ser_manifest varchar(255) not null,
    snapshot_payload bytea not null,
    meta_ser_id integer,
    meta_ser_manifest varchar(255),
    meta_payload bytea,
    primary key (persistence_id, sequence_number)
);

-- How far each read side has come in each shard.
create table if not exists read_side_offsets (
    projection_name varchar(255) not null,
    projection_key varchar(255) not null,
    current_offset varchar(255) not null,
    manifest varchar(4) not null,
    mergeable boolean not null,
    last_updated bigint not null,
    primary key (projection_name, projection_key)
);

create index if not exists projection_name_index on read_side_offsets (projection_name);

-- Which shards of which read side are paused.
create table if not exists read_sides (
    projection_name varchar(255) not null,
    projection_key varchar(255) not null,
    paused boolean not null,
    last_updated bigint not null,
    primary key (projection_name, projection_key)
);

-- Which of Chief of State's own migrations have been applied, and when (milliseconds since 1970).
create table if not exists cos_migrations (
    version_number integer primary key,
    upgraded_at bigint,
    is_snapshot boolean
);
