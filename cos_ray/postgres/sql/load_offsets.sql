-- How far a read side has come, shard by shard.
select projection_key, current_offset
from read_side_offsets
where projection_name = %(read_side)s
