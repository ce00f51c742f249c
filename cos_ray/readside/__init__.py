"""
An event's path: read from the journal, delivered to a read handler, remembered by its offset.

Async, but free of Ray, of gRPC and of every driver: the world is reached through
`cos_ray.ports`. Start with `read_side`, whose one loop moves everything. Below it: `projection`
(one shard: when to read, how far it has come), `window` (what is read and not yet delivered),
`continuity` (nothing skipped), `delivery` (many entities at once, one event of each at a time)
and `offset_keeper` (progress saved in batches).

An event skipped or handed over out of order is the worst that can happen here. Delivering twice
is allowed, so every doubt is settled by delivering again.
"""
