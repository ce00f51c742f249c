"""What an entity goes by, beside its handler's decisions."""

from __future__ import annotations

from dataclasses import dataclass

from cos_ray.domain.type_changes import TypePolicy
from cos_ray.domain.types import AcceptedTypes

_WATCHFUL = TypePolicy()


@dataclass(frozen=True, slots=True)
class EntityPolicy:
    """The same for all entities of a service."""

    accepted_types: AcceptedTypes | None = None
    """The types of events and states to accept from the write handler; None: all."""
    waiting_commands: int = 500
    """How many commands may wait for one entity; the next are turned away."""
    type_policy: TypePolicy = _WATCHFUL
    """When a state may be of another type than the one before it."""
