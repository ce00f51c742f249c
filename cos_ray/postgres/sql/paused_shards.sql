-- Which shards of a read side are paused.
select projection_key from read_sides where projection_name = %(read_side)s and paused
