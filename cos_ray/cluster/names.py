"""Names of actors and namespaces in a Ray cluster."""

from __future__ import annotations

from cos_ray.domain.ids import EntityId, ReadSideId
from cos_ray.domain.shard_assignment import HostId

LAUNCHER = "launcher"
"""The name of the actor that is there as long as a service's launcher is."""

RELEASE_SUPERVISOR = "release-supervisor"
"""The name of the actor that looks after a deployed release."""

PROCESS_COORDINATOR = "process-coordinator"
"""The name of the actor that decides which entities have processes."""

ENTITY = "entity:"
"""How the names of entities' own actors begin."""


def namespace_of(service: str) -> str:
    """The Ray namespace of a service's actors."""
    return f"cos-{service}"


def namespace_of_release(service: str, release: str) -> str:
    """The Ray namespace of the actors of one deployed release of a service."""
    return f"{namespace_of(service)}.{release}"


def entity_actor_name(entity_id: EntityId) -> str:
    """The name of an entity's own actor."""
    return f"{ENTITY}{entity_id}"


def journal_actor_name(node_id: str) -> str:
    """The name of the actor through which a node's entities append."""
    return f"journal:{node_id}"


def read_side_actor_name(read_side: ReadSideId, number: int = 0) -> str:
    """The name of one of a read side's actors; the first is called after the read side alone."""
    return f"read-side:{read_side}:{number}" if number else f"read-side:{read_side}"


SHARD_COORDINATOR = "shard-coordinator"
"""The name of the actor that looks after the shard hosts."""

SHARD_HOST = "shard-host:"
"""How the names of shard hosts begin."""


def shard_host_actor_name(host: HostId) -> str:
    """The name of a shard host's actor."""
    return f"{SHARD_HOST}{host}"


def host_of_actor_name(name: str) -> HostId | None:
    """Which shard host has this name; None if it is no shard host's."""
    return HostId(name.removeprefix(SHARD_HOST)) if name.startswith(SHARD_HOST) else None
