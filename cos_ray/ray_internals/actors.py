"""
What Ray's head knows of actors, and tells no public function: state, namespace and node together.

Every call blocks, and raises RayError where the head does not answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray._private import state
from ray.actor import ActorHandle
from ray.core.generated.gcs_pb2 import ActorTableData


def is_alive(actor: ActorHandle[Any]) -> bool:
    """Whether the actor's process has started, and is not known to be gone."""
    told = state.state.get_actor_info(actor._actor_id)
    return told is not None and ActorTableData.FromString(told).state == ActorTableData.ALIVE


def living_actors(namespace: str, prefix: str) -> Iterator[tuple[str, str]]:
    """The names of the namespace's living actors that begin so, each with its node's id in hexadecimal."""
    table = state.state._connect_and_get_accessor().get_actor_table(None, "ALIVE")
    for actor in map(ActorTableData.FromString, table):
        if actor.ray_namespace == namespace and actor.name.startswith(prefix):
            yield actor.name, actor.address.node_id.hex()
