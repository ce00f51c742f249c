"""Who admits entities to processes of their own, for all that have to ask or to start it."""

from __future__ import annotations

from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.keeper_actor import KeeperRecipe
from cos_ray.cluster.sealed import seal


def keeper_recipe(wiring: EntityWiring) -> KeeperRecipe:
    """How the keeper of entities' processes is started; what the entities work with comes with it, sealed."""
    from cos_ray.bootstrap.entity import build_entity

    return KeeperRecipe(wiring.namespace, seal(build_entity, wiring), wiring.limits, wiring.logs, wiring.tls)
