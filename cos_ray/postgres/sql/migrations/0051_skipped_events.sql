-- Events that a read side has stepped over for good, by its failure policy or by an operator. They lie
-- behind its offset like those that were handled, and are not to be taken for such.
create table cos_skipped_events (
    read_side varchar(255) not null,
    entity_id varchar(255) not null,
    sequence_number bigint not null,
    shard integer not null,
    ordering bigint not null,
    skipped_at timestamptz not null,
    primary key (read_side, entity_id, sequence_number)
);

create index cos_skipped_events_by_place on cos_skipped_events (read_side, shard, ordering);
