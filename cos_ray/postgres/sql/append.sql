-- The one statement by which events get into the journal.
select outcome, last_ordering
from cos_append(
    %b::integer[], %b::integer[], %b::text[], %b::bigint[], %b::bigint[], %b::text[], %b::bytea[]
)
