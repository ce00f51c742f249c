-- The changes of state types that the journal is known to hold.
select old_type, new_type, grounds, entity_id, sequence_number
from cos_type_changes
order by noted_at, old_type, new_type
