-- After which offset in each shard everything comes that was stored since then.
select a.tag, cos_place_before(a.tag, %(since)s::bigint) from unnest(%(tags)s::text[]) as a (tag)
