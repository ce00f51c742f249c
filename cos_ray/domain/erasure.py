"""
What an entity is when it has been erased, and how that comes about.

An entity is erased as it does everything: by a command of its own, in turn, which leads to one last
event. So no copy of it goes on with what it remembers. What its earlier events said is then removed
from the journal behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.messages import EntityState, EventEnvelope, JournaledEvent, Meta, Packed

ERASE = Packed(b"\x0a\x31type.googleapis.com/cos_ray.v1.EraseEntityRequest")
"""The command, an `Any` of `cos_ray.v1.EraseEntityRequest`; the service's own, never a client's."""

ERASED_TYPE = "cos_ray.v1.EntityErased"

ERASED = Packed(b"\x0a\x2btype.googleapis.com/cos_ray.v1.EntityErased")
"""An `Any` of `cos_ray.v1.EntityErased`: the last event, and the last state."""

IS_ERASED = Status(Code.FAILED_PRECONDITION, "the entity is erased")


KNOWN_WITHIN = timedelta(seconds=2)
"""
How old a process's knowledge of erasures may be when it hands out what it has in memory.

So long after an erasure is on record, it may still hand out what the entity's events said, and no
longer: an erasure is not reported as done before.
"""


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


def says_nothing(envelope: EventEnvelope) -> bool:
    """Whether the event tells no more than that its entity is erased: the last one, or one redacted."""
    return envelope.event == ERASED and envelope.resulting_state == ERASED


def redacted(envelope: EventEnvelope) -> EventEnvelope:
    """That there was an event, which one, and when; nothing of what it said."""
    if says_nothing(envelope):
        return envelope
    meta = Meta(envelope.meta.entity_id, envelope.meta.revision, envelope.meta.date)
    return replace(envelope, event=ERASED, resulting_state=ERASED, meta=meta)


def redacted_event(event: JournaledEvent) -> JournaledEvent:
    """The same event in its place, redacted; itself if it says nothing anyway."""
    envelope = redacted(event.envelope)
    return event if envelope is event.envelope else replace(event, envelope=envelope)
