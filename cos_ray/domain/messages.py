"""What travels between the parts: commands, events with what they led to, and replies."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NewType, TypeAlias

from cos_ray.domain.errors import Status
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset, Revision, Shard
from cos_ray.domain.trace_ids import Trace
from cos_ray.domain.type_changes import PassedChange

Packed = NewType("Packed", bytes)
"""A `google.protobuf.Any` in its serialized form. It is the application's: never looked into."""

NOTHING = Packed(b"")
"""The default `Any`, neither type nor value."""

EMPTY_STATE = Packed(b"\x0a\x29type.googleapis.com/google.protobuf.Empty")
"""An `Any` of `google.protobuf.Empty`: the state of an entity without events (as in CoS)."""


@dataclass(frozen=True, slots=True)
class Header:
    """One value of one request header; bytes for keys that end in `-bin`."""

    key: str
    value: str | bytes


Headers: TypeAlias = tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class Meta:
    """Where an event stands in its entity's history."""

    entity_id: EntityId
    revision: Revision
    date: datetime | None = None
    """When the event was made (aware); None for an entity without events."""
    headers: Headers = ()
    """The persisted headers of the command that led to the event."""
    data: tuple[tuple[str, Packed], ...] = ()
    """Entries that others wrote; this service writes none."""


@dataclass(frozen=True, slots=True)
class CommandMeta(Meta):
    """What an in-process handle_command is told: where the entity stands, and what came with the command."""

    propagated: Headers = ()
    """The request's headers that COS_WRITE_SIDE_PROPAGATED_HEADERS names."""


@dataclass(frozen=True, slots=True)
class DeliveryMeta(Meta):
    """What an in-process read handler is told of an event."""

    read_side: str = ""
    """For which of the configured read sides it is delivered."""
    shard: int = 0
    """The shard it lies in."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One of the events that an in-process `handle_many` is given."""

    event: Any
    """The application's message."""
    state: Any
    """The entity's state after the event, likewise."""
    meta: DeliveryMeta


@dataclass(frozen=True, slots=True)
class EntityState:
    """An entity after its newest event, or before its first."""

    state: Packed
    meta: Meta
    sequence_number: Revision
    """The newest event's key in the journal; differs from `meta.revision` in some old CoS journals."""

    @property
    def exists(self) -> bool:
        """Whether the entity has had an event."""
        return self.meta.revision > 0


@dataclass(frozen=True, slots=True)
class Command:
    """A request to change an entity, with what the service must know to serve it."""

    entity_id: EntityId
    payload: Packed
    command_id: CommandId
    budget: float
    """Seconds left, when sent, for everything: queueing, handler calls and the append."""
    propagated: Headers = ()
    """For the write handler's HandleCommand only."""
    persisted: Headers = ()
    """For the metadata of every event the command leads to."""
    maybe_stored: bool = False
    """Whether an earlier try got lost: then the journal is asked for its events before it runs."""
    key: IdempotencyKey | None = None
    """The same key again gives the reply it gave before, and runs nothing."""
    expected_revision: Revision | None = None
    """The revision the entity must be at for the command to run; 0: it must not exist."""
    sent_at: float = 0.0
    """When it was taken in, in seconds since 1970 by the clock of the ingress; 0: not known."""
    trace: Trace | None = None
    """The trace it is part of; None: traces are off."""


@dataclass(frozen=True, slots=True)
class EventEnvelope:
    """An event with its resulting state and metadata."""

    event: Packed
    resulting_state: Packed
    meta: Meta
    sequence_number: Revision
    cause: str | None = field(default=None, compare=False)
    """The place in a trace of the command it comes from (see `causes`); known where it is delivered only."""
    passed_change: PassedChange | None = field(default=None, compare=False)
    """That its state is of another type than the one before it; known where it is appended only."""


@dataclass(frozen=True, slots=True)
class Append:
    """All events of one command and its key, for the journal to take whole or not at all."""

    entity_id: EntityId
    shard: Shard
    command_id: CommandId
    expected: Revision
    """The sequence number the entity must be at."""
    envelopes: tuple[EventEnvelope, ...]
    """May be empty if there is a key: a command without events, to be remembered."""
    key: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an idempotency key led to."""

    sequence_number: Revision
    """The entity's newest event when the command was done; 0 if it had none."""
    envelope: EventEnvelope | None
    """That event; None if there was none, or the journal no longer has it."""


@dataclass(frozen=True, slots=True)
class RowIdentity:
    """What tells a row of the journal from any other that may come to lie at its offset."""

    offset: Offset
    entity_id: EntityId
    """As the row has it."""
    sequence_number: Revision
    written_at: int | None
    """When it was written, in milliseconds since 1970, as far as that is known."""


@dataclass(frozen=True, slots=True)
class NewestRevision:
    """How far an entity has come in the journal, and whether it has had a command of some key."""

    newest: Revision
    """The sequence number of its newest event; 0 if it has none."""
    key_is_known: bool


@dataclass(frozen=True, slots=True)
class JournaledEvent:
    """An event as a read side meets it: where it lies, and what it says."""

    offset: Offset
    envelope: EventEnvelope
    row: RowIdentity | None = field(default=None, compare=False)
    """Its row; known where it was read as the next one only."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command is done; what it led to is stored."""

    state: EntityState


@dataclass(frozen=True, slots=True)
class Refused:
    """The command is over, with the status the client is to see."""

    status: Status


@dataclass(frozen=True, slots=True)
class TryElsewhere:
    """This copy of the entity gives the command back: another one is writing the history."""

    maybe_stored: bool
    """Whether a try of this copy may yet turn out to be stored."""


Reply: TypeAlias = Accepted | Refused | TryElsewhere
