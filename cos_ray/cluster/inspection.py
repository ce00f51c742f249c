"""Looks at a running cluster from outside, as `ray list actors` does."""

from __future__ import annotations

from ray.util.state import list_actors

from cos_ray.cluster.names import entity_actor_name
from cos_ray.domain.ids import EntityId


def pids_of_entity(dashboard: str, entity_id: EntityId) -> list[int]:
    """The processes of an entity's live actors, by the cluster's dashboard; normally one."""
    alive = [("name", "=", entity_actor_name(entity_id)), ("state", "=", "ALIVE")]
    return [actor.pid for actor in list_actors(address=dashboard, filters=alive) if actor.pid]
