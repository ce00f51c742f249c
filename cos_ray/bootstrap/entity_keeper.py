"""The keeper of entities that have a process each, with what these are built by."""

from __future__ import annotations

from cos_ray.bootstrap.entity import build_entity
from cos_ray.bootstrap.wiring import EntityWiring
from cos_ray.cluster.keeper_actor import KeeperRecipe
from cos_ray.cluster.sealed import seal


def keeper_recipe(wiring: EntityWiring) -> KeeperRecipe:
    """What it takes to start the keeper; the same whoever starts it."""
    return KeeperRecipe(
        wiring.namespace, seal(build_entity, wiring), wiring.journal, wiring.limits, wiring.logs, wiring.tls
    )
