-- Give up one's claims.
delete from cos_read_side_claims where read_side = %(read_side)s and owner = %(owner)s
