-- Save states, of each entity one, and let go of its older snapshots but the newest ones; of an
-- erased entity nothing is saved.
select cos_save_snapshots(
    %(entity_ids)s::text[], %(sequence_numbers)s::bigint[], %(payloads)b::bytea[], %(keep)s::integer
)
