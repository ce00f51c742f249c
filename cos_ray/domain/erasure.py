"""
What an entity is when it has been erased, and how that comes about.

An entity is erased as it does everything: by a command of its own, in turn, which leads to one last
event. So no copy of it goes on with what it remembers. What its earlier events said is then removed
from the journal behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.messages import EntityState, Packed

ERASE = Packed(b"\x0a\x31type.googleapis.com/cos_ray.v1.EraseEntityRequest")
"""The command, an `Any` of `cos_ray.v1.EraseEntityRequest`; the service's own, never a client's."""

ERASED = Packed(b"\x0a\x2btype.googleapis.com/cos_ray.v1.EntityErased")
"""An `Any` of `cos_ray.v1.EntityErased`: the last event, and the last state."""

IS_ERASED = Status(Code.FAILED_PRECONDITION, "the entity is erased")


@dataclass(frozen=True, slots=True)
class Erasure:
    """What is on record."""

    erased_at: datetime | None
    """When all was removed; None while it is not."""
    events: int
    """How many events were there, the last one included."""


def is_erased(state: EntityState) -> bool:
    """Whether nothing more can happen to this entity."""
    return state.state == ERASED
