"""How an entity's state goes on from event to event."""

from __future__ import annotations

from datetime import datetime

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import EMPTY_STATE, EntityState, EventEnvelope, Headers, Meta, Remembered

ACTUAL_REVISION = "x-cos-actual-revision"
"""The trailing metadata that says where the entity is."""


def fault_of_revision(expected: Revision | None, actual: Revision) -> Status | None:
    """The status of a command that expected another revision; None when it expected this one, or none."""
    if expected is None or expected == actual:
        return None
    message = f"expected revision {expected}, actual {actual}"
    return Status(Code.ABORTED, message, trailers=((ACTUAL_REVISION, str(actual)),))


def unborn(entity_id: EntityId) -> EntityState:
    """The state of an entity before its first event."""
    return EntityState(EMPTY_STATE, Meta(entity_id, Revision(0)), Revision(0))


def next_meta(prior: EntityState, date: datetime | None, headers: Headers) -> Meta:
    """The metadata of the event that comes after `prior`."""
    return Meta(prior.meta.entity_id, Revision(prior.meta.revision + 1), date, headers)


def next_sequence_number(prior: EntityState) -> Revision:
    """The journal key of the event that comes after `prior`."""
    return Revision(prior.sequence_number + 1)


def state_after(envelope: EventEnvelope) -> EntityState:
    """The state an event led to. Every envelope carries it, so no history is replayed."""
    return EntityState(envelope.resulting_state, envelope.meta, envelope.sequence_number)


def state_remembered(entity_id: EntityId, remembered: Remembered) -> EntityState | None:
    """The state a key's command was answered with; None if the journal no longer has it."""
    if remembered.sequence_number == 0:
        return unborn(entity_id)
    return None if remembered.envelope is None else state_after(remembered.envelope)
