-- Save states, of each entity one, and let go of its older snapshots but the newest ones; of an
-- erased entity nothing is saved, nor of an event that the journal does not have.
select cos_save_snapshots(
    %(entity_ids)s::text[], %(sequence_numbers)s::bigint[], %(payloads)b::bytea[], %(writers)s::text[],
    %(keep)s::integer
)
