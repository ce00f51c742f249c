"""
Where entities live: shard hosts, processes of single entities, and who decides which.

Coordinators, the shard host and the region (what a sender of commands knows of it). Async, and free of Ray:
processes are reached through `cos_ray.ports` and protocols here; `cos_ray.cluster` makes actors of them.
What an entity does with a command is in `cos_ray.writeside`.
"""
