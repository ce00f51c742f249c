"""
What the flows ask of the world, and nothing about how it is done.

Each Protocol is implemented by a door (postgres, handlers, cluster) and by a fake in
`cos_ray.testing`, held to one contract suite.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cos_ray.domain.decisions import Decision
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset, ReadSideId, Revision, Shard
from cos_ray.domain.messages import (
    Append,
    Command,
    EntityState,
    EventEnvelope,
    Headers,
    JournaledEvent,
    Meta,
    Packed,
    Remembered,
    Reply,
)
from cos_ray.domain.placement import Assignment, HostId


class Clock(Protocol):
    """Time, so that tests can hold it still."""

    def now(self) -> datetime:
        """The date and time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        ...


class Journal(Protocol):
    """Where events are kept: the only truth."""

    async def append(self, append: Append) -> Offset:
        """
        Store all of the command's events, or none; answer with the last one's offset (0: no events).

        Asking again for what is already stored by the same command, byte for byte, succeeds;
        with a key it raises KeyKnown, as for any command with a key that is remembered: then
        `remembered` has the answer. Also raises RevisionConflict when the entity is not at
        `append.expected`, EventRefused when the journal can never take it, JournalUnavailable
        when nothing was stored, and OutcomeUnknown when that cannot be told.
        """
        ...

    async def newest(self, entity_id: EntityId) -> EventEnvelope | None:
        """The entity's newest event; None if it has none. Raises JournalUnavailable."""
        ...

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | None:
        """
        The last event this command led to; None if it led to none that is stored.

        Looks at the entity's newest 5,000 events, which is far more than can happen within the
        time of one command. Raises JournalUnavailable.
        """
        ...

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey]:
        """The entity's keys that have not expired, so many at most. Raises JournalUnavailable."""
        ...

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
        """What the key led to; None if it is unknown or has expired. Raises JournalUnavailable."""
        ...


class EventSource(Protocol):
    """The journal as read sides see it: shard by shard, in order, nothing skipped."""

    async def after(self, shard: Shard, offset: Offset, limit: int) -> Sequence[JournaledEvent]:
        """The shard's next events after the offset, in rising order. Raises JournalUnavailable."""
        ...


class History(Protocol):
    """The journal as those see it who ask for an entity's past. Revisions are sequence numbers here."""

    async def history(self, entity_id: EntityId, first: Revision, limit: int) -> Sequence[EventEnvelope]:
        """The entity's events from the first one named, in order. Raises JournalUnavailable."""
        ...

    async def at(self, entity_id: EntityId, revision: Revision) -> EventEnvelope | None:
        """
        The event that brought the entity to this revision, with the state it then had.

        None if it has not come so far, or the event is deleted for good. Raises JournalUnavailable.
        """
        ...


class OffsetStore(Protocol):
    """How far each read side has come in each shard."""

    async def load(self, read_side: ReadSideId) -> Mapping[Shard, Offset]:
        """The offsets known; a shard without one starts at 0. Raises JournalUnavailable."""
        ...

    async def save(self, read_side: ReadSideId, offsets: Mapping[Shard, Offset]) -> None:
        """Keep these offsets, leaving those of other shards. Raises JournalUnavailable."""
        ...


class WriteHandler(Protocol):
    """The application's two functions. Every failure is a HandlerFailed with its status."""

    async def handle_command(
        self, command: Packed, prior: EntityState, headers: Headers, timeout: float
    ) -> Decision:
        """Which events the command leads to; `timeout` in seconds."""
        ...

    async def handle_event(self, event: Packed, prior_state: Packed, meta: Meta, timeout: float) -> Packed:
        """Which state the event leads to; `timeout` in seconds."""
        ...


class ReadHandler(Protocol):
    """An application's consumer of events."""

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        """Deliver one event within the handler's own timeout; raises DeliveryFailed unless confirmed."""
        ...


class EntityGateway(Protocol):
    """The way to any entity, wherever it lives."""

    async def process(self, command: Command) -> Reply:
        """Run the command within its budget; never answers TryElsewhere."""
        ...

    async def state(self, entity_id: EntityId) -> EntityState:
        """The state after every acknowledged command. Raises JournalUnavailable."""
        ...


class Entities(Protocol):
    """Where entities live: one Ray actor each, or many in one; the router does not know."""

    async def ask(self, command: Command) -> Reply:
        """
        Hand the command to the entity, waking it if need be, and wait for the reply.

        Raises EntityLost when its process died or cannot be reached, with the command or
        without, EntitySilent when no reply came within the command's budget, and NoRoom when
        the entity could not be woken within it.
        """
        ...


class ShardHosts(Protocol):
    """The processes that are home to shards, as who tends them reaches them. Raises EntityLost throughout."""

    async def names(self) -> Sequence[HostId]:
        """All there are, whether they answer or not."""
        ...

    async def seats(self) -> int:
        """How many there should be, as the cluster is now."""
        ...

    async def start(self, host: HostId, assignment: Assignment) -> None:
        """Start a process for it; returns before it has started."""
        ...

    async def tell(self, host: HostId, assignment: Assignment | None) -> Assignment:
        """Let it go by this assignment unless it knows a newer one; the one it goes by."""
        ...

    async def retire(self, host: HostId) -> None:
        """Let it end what it has begun, and end itself."""
        ...


class Neighbours(Protocol):
    """Shard hosts among each other."""

    async def release(self, host: HostId, assignment: Assignment, shards: Collection[Shard]) -> None:
        """Return when the host no longer runs anything in these shards. Raises EntityLost."""
        ...


class Publisher(Protocol):
    """Tells read sides that there is something new; losing a notice only costs time."""

    def appended(self, shards: Sequence[Shard]) -> None:
        """Events were stored in these shards. Returns at once, never raises."""
        ...
