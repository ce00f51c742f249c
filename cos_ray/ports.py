"""
What the flows ask of the world, and nothing about how it is done.

Each Protocol is implemented by a door (postgres, handlers, cluster) and by a fake in
`cos_ray.testing`, held to one contract suite.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from cos_ray.domain.decisions import Decision
from cos_ray.domain.erasure import Erasure
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset, Owner, ReadSideId, Revision, Shard
from cos_ray.domain.listing import Listing
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
from cos_ray.domain.read_sides import DeadLetter, Lag, Obeyed, Order
from cos_ray.domain.status import ServiceStatus
from cos_ray.domain.watermark import JournalHead, UnreadableEvent


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
        """
        The shard's next events after the offset, in rising order.

        Raises JournalUnavailable; as UnreadableEvent when the next event is none that can be read.
        """
        ...

    async def stirring(self, offsets: Mapping[Shard, Offset]) -> Collection[Shard]:
        """Those of the shards that have events after their offset. Raises JournalUnavailable."""
        ...


class Places(Protocol):
    """Where events lie in the journal, for those who look after read sides."""

    async def lags(self, offsets: Mapping[Shard, Offset]) -> Mapping[Shard, Lag]:
        """What follows these offsets, counted up to some bound. Raises JournalUnavailable."""
        ...

    async def before(self, shards: Collection[Shard], date: datetime) -> Mapping[Shard, Offset]:
        """The offset in each shard after which everything comes that was stored since the date.

        As far as the clocks rose of those who stored it. Raises JournalUnavailable.
        """
        ...

    async def events_of(self, entity_id: EntityId, first: Revision, limit: int) -> Sequence[JournaledEvent]:
        """The entity's events from this sequence number on, in order. Raises JournalUnavailable."""
        ...

    async def place_of(self, entity_id: EntityId, sequence_number: Revision) -> Offset | None:
        """Where this event lies; None if it is not there. Raises JournalUnavailable."""
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


class EntityPast(Protocol):
    """What was when, and which entities there are. All of it raises JournalUnavailable."""

    async def at_time(self, entity_id: EntityId, moment: datetime) -> EventEnvelope | None:
        """The entity's newest event that is not dated later."""
        ...

    async def entities(self, prefix: str, after: str, limit: int) -> Listing:
        """Entities whose ids begin so, after the place named, in the order of their ids' UTF-8 bytes."""
        ...

    async def offset_at(self, moment: datetime) -> Offset | None:
        """About where the events begin that were stored since then; None if there are none."""
        ...

    async def changed(self, prefix: str, since: datetime, after: Offset, limit: int) -> Listing:
        """Entities with an event stored since then, whose newest lies after the offset, in their order."""
        ...


class Eraser(Protocol):
    """Removes what is kept of an entity that has come to its last event. All raises JournalUnavailable."""

    async def erasure_of(self, entity_id: EntityId) -> Erasure | None:
        """What is on record; None if nobody has asked for it."""
        ...

    async def remove(self, entity_id: EntityId, reason: str, caller: str | None) -> Erasure:
        """Put it on record, and remove all that its events said. May be repeated."""
        ...


class JournalTail(Protocol):
    """The journal as one sequence of events over all shards, in the order of their offsets."""

    async def head(self) -> JournalHead:
        """Where the journal ends, and who is writing at it. Raises JournalUnavailable."""
        ...

    async def between(
        self, after: Offset, up_to: Offset, limit: int
    ) -> Sequence[JournaledEvent | UnreadableEvent]:
        """Events after the one offset and up to the other, in order. Raises JournalUnavailable."""
        ...

    async def of_entity(
        self, entity_id: EntityId, first: Revision, up_to: Offset, limit: int
    ) -> Sequence[JournaledEvent | UnreadableEvent]:
        """
        An entity's events from one sequence number on, up to an offset, in order.

        Raises JournalUnavailable.
        """
        ...


class OffsetStore(Protocol):
    """How far each read side has come in each shard."""

    async def load(self, read_side: ReadSideId) -> Mapping[Shard, Offset | None]:
        """
        The offsets known; a shard without one starts at 0. Raises JournalUnavailable.

        None for a shard whose stored offset is no number: someone else wrote it.
        """
        ...

    async def save(
        self, read_side: ReadSideId, offsets: Mapping[Shard, Offset], owner: Owner
    ) -> Collection[Shard]:
        """
        Keep these offsets, leaving those of other shards; answer with those that were refused.

        Refused is what the owner has no claim to (any more). Raises JournalUnavailable.
        """
        ...


class ReadSideControls(Protocol):
    """What operators want of read sides, and which process has which shard. May raise JournalUnavailable."""

    async def introduce(self, read_side: ReadSideId, shards: Collection[Shard], auto_start: bool) -> None:
        """A read side starts: one never seen before is paused unless it is to start by itself."""
        ...

    async def paused(self, read_side: ReadSideId) -> Collection[Shard]:
        """Which shards are paused."""
        ...

    async def pause(self, read_side: ReadSideId, shards: Collection[Shard], paused: bool) -> None:
        """Pause or resume these shards, for good."""
        ...

    async def claim(self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner) -> None:
        """Take these shards, from whomever."""
        ...

    async def renew(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, silence: timedelta
    ) -> Collection[Shard]:
        """
        Keep one's claims alive, and take over those of others that were not renewed for so long.

        Answers with the shards that are the owner's now.
        """
        ...

    async def release(self, read_side: ReadSideId, owner: Owner) -> None:
        """Give up one's claims: whoever renews takes them over at once."""
        ...


class DeadLetters(Protocol):
    """Events that were set aside, by read side and entity. May raise JournalUnavailable."""

    async def park(
        self, read_side: ReadSideId, shard: Shard, event: JournaledEvent, reason: str, failures: int
    ) -> None:
        """Set this event aside; once is enough."""
        ...

    async def entities(self, read_side: ReadSideId) -> Mapping[Shard, Collection[EntityId]]:
        """The entities that have dead letters."""
        ...

    async def counts(self, read_side: ReadSideId) -> Mapping[Shard, int]:
        """How many dead letters there are, in the shards that have any."""
        ...

    async def letters(
        self, read_side: ReadSideId, entity_id: EntityId | None, limit: int
    ) -> Sequence[DeadLetter]:
        """The oldest dead letters, of one entity or of all, by their offsets."""
        ...

    async def drop(self, read_side: ReadSideId, entity_id: EntityId, revision: Revision | None) -> int:
        """Forget one event of the entity, or all; answer with how many that were."""
        ...

    async def drop_after(self, read_side: ReadSideId, shard: Shard, offset: Offset) -> None:
        """Forget those in the shard that lie after the offset: they are going to be delivered again."""
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


@runtime_checkable
class BatchReadHandler(ReadHandler, Protocol):
    """A consumer that takes many events in one call."""

    batch: int
    """How many at most."""

    async def handle_many(self, read_side: ReadSideId, events: Sequence[tuple[Shard, EventEnvelope]]) -> None:
        """Deliver all of them, an entity's in order; raises DeliveryFailed unless all are confirmed."""
        ...


class ReadSideProcesses(Protocol):
    """The way to the processes that run the read sides."""

    async def obey(self, read_side: ReadSideId, order: Order, timeout: float) -> Sequence[Obeyed]:
        """
        What the read side's processes say that answered within so many seconds; others are left out.

        Raises ReadSideUnavailable when one of them tried and could not.
        """
        ...

    async def handled(
        self, read_side: ReadSideId, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool:
        """Whether this event (by its sequence number) is confirmed, now or within so many seconds."""
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

    async def renew(self, host: HostId) -> Assignment:
        """Tell the keeper that this host is well; the newest assignment. Raises EntityLost."""
        ...


class Operations(Protocol):
    """The service as an operator sees it."""

    async def status(self) -> ServiceStatus:
        """Every part that answers in time."""
        ...

    async def resize(self, hosts: int | None) -> Sequence[HostId]:
        """
        Have so many shard hosts, None: as many as suit the cluster; who they are.

        Raises NotSharded, and EntityLost when their keeper does not answer.
        """
        ...


class Publisher(Protocol):
    """Tells read sides that there is something new; losing a notice only costs time."""

    def appended(self, shards: Sequence[Shard]) -> None:
        """Events were stored in these shards. Returns at once, never raises."""
        ...
