-- Rows as they were exported.
copy event_journal (
    ordering, persistence_id, sequence_number, event_payload,
    deleted, writer, write_timestamp, adapter_manifest, event_ser_id, event_ser_manifest,
    meta_ser_id, meta_ser_manifest, meta_payload
) from stdin (format binary)
