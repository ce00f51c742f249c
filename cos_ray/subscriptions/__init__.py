"""
Live streams of events, for clients that listen.

Async, but free of gRPC, of Ray and of every driver: the world is reached through `cos_ray.ports`.
Start with `subscriptions`, which opens and ends them. Below it: `tail` (one loop reads what is new
in the journal, for all), `feed` (who hears of which event), `listener` (what one client has yet to
take, bounded) and `past` (what one client wants from before).

Events come in the order of their offsets, over all shards. Up to the offset the tail has come to
everything is read from the journal, beyond it everything is heard: so nothing is missed between
the two, and nothing comes twice.
"""
