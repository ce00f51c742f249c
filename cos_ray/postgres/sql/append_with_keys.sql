-- The statement for batches in which at least one append has an idempotency key.
select outcome, last_ordering
from cos_append_with_keys(
    %b::integer[], %b::integer[], %b::text[], %b::bigint[], %b::bigint[], %b::text[], %b::bytea[],
    %b::text[], %b::interval
)
