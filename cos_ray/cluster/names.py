"""Who is called what inside a Ray cluster."""

from __future__ import annotations

from cos_ray.domain.ids import EntityId, ReadSideId

LAUNCHER = "launcher"
"""The name of the actor that is there as long as a service's launcher is."""

KEEPER = "entity-keeper"
"""The name of the actor that decides which entities have processes."""

ENTITY = "entity:"
"""How the names of entities' own actors begin."""


def namespace_of(service: str) -> str:
    """The Ray namespace of a service's actors."""
    return f"cos-{service}"


def entity_actor_name(entity_id: EntityId) -> str:
    """The name of an entity's own actor."""
    return f"{ENTITY}{entity_id}"


def journal_actor_name(node_id: str) -> str:
    """The name of the actor through which a node's entities append."""
    return f"journal:{node_id}"


def read_side_actor_name(read_side: ReadSideId) -> str:
    """The name of a read side's actor."""
    return f"read-side:{read_side}"
