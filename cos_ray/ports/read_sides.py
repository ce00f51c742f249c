"""Read sides: what they are delivered to, and what is remembered of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, ReleaseId, Revision, Shard
from cos_ray.domain.messages import (
    EventEnvelope,
    JournaledEvent,
    RowIdentity,
)
from cos_ray.domain.pages import Page
from cos_ray.domain.read_sides import DeadLetter, Lag, Obeyed, Order, Span, Start
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.ports.journal import NOTHING_KNOWN


class Positions(Protocol):
    """Where events lie in the journal, for those who look after read sides."""

    async def lags(self, offsets: Mapping[Shard, Offset]) -> Mapping[Shard, Lag]:
        """What follows these offsets, counted up to some bound. Raises JournalUnavailable."""
        ...

    async def before(self, shards: Collection[Shard], date: datetime) -> Mapping[Shard, Offset]:
        """
        The offset in each shard after which everything comes that is dated since then.

        Older events may come, too, where dates do not rise with offsets. Raises JournalUnavailable.
        """
        ...

    async def events_of(self, entity_id: EntityId, first: Revision, limit: int) -> Page[JournaledEvent]:
        """
        The entity's events from this sequence number on, in order. Raises JournalUnavailable.

        As UnreadableEvent when the first of them is none that can be read; they end before another.
        """
        ...

    async def span_of(self, entity_id: EntityId, up_to: Offset) -> Span | None:
        """Which events the entity has up to this offset; None if it has none. Raises JournalUnavailable."""
        ...

    async def starts(self, read_side: ReadSideId, offsets: Mapping[Shard, Offset]) -> Mapping[Shard, Start]:
        """What there is at these offsets, after which one is to begin. Raises JournalUnavailable."""
        ...

    async def place_of(self, entity_id: EntityId, sequence_number: Revision) -> Offset | None:
        """Where this event lies; None if it is not there. Raises JournalUnavailable."""
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
        self,
        read_side: ReadSideId,
        offsets: Mapping[Shard, Offset],
        owner: Owner,
        known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN,
    ) -> Collection[Shard]:
        """
        Keep these offsets, leaving those of other shards; answer with those that were refused.

        Refused is what the owner has no claim to (any more). `known`: events that were read. Where
        one was not deleted and is not in the journal any more, the shard's offset is not kept: the others
        are, then HistoryWentBack is raised, with these shards. Raises JournalUnavailable.
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

    async def accept_losses(self, read_side: ReadSideId, up_to: Mapping[Shard, Offset]) -> None:
        """It goes on though events of these shards were deleted, up to there, that it has not seen."""
        ...

    async def enlist(self, release: ReleaseId) -> LeaseRank:
        """A run of a read side begins; how much it counts in shards of its own."""
        ...

    async def keep(self, read_side: ReadSideId, owner: Owner, lasts: timedelta) -> Mapping[Shard, bool]:
        """
        Let one's claims last for so long again; answers with those there are.

        True for a shard that somebody asks for who is to have it.
        """
        ...

    async def take(
        self,
        read_side: ReadSideId,
        shards: Collection[Shard],
        owner: Owner,
        standing: LeaseRank,
        lasts: timedelta,
    ) -> Collection[Shard]:
        """
        Have those that nobody has, whose claim has run out, or, at home, whose process has surely ended.

        Answers with what was taken.
        """
        ...

    async def ask(
        self,
        read_side: ReadSideId,
        shards: Collection[Shard],
        owner: Owner,
        standing: LeaseRank,
        lasts: timedelta,
    ) -> None:
        """
        Ask for shards that others have; it holds for so long, and is not heard where they count more.

        Whoever gives them up gives them to who asked; `keep` tells.
        """
        ...

    async def release(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, run: int | None = None
    ) -> None:
        """
        Give up one's claims to these shards: to whoever asks for one, else to whoever comes.

        Only what was taken by this run or an earlier one; None: whichever.
        """
        ...


class DeadLetters(Protocol):
    """
    Events that lie behind a read side's offset and were not handled. May raise JournalUnavailable.

    They are set aside (dead letters), or were stepped over for good.

    Whatever changes them raises ClaimLost, and changes nothing, unless the owner has the shard.
    """

    async def park(
        self,
        read_side: ReadSideId,
        shard: Shard,
        event: JournaledEvent,
        reason: str,
        failures: int,
        owner: Owner,
    ) -> None:
        """
        Set this event aside; once is enough.

        Raises EntityIsErased, and keeps nothing, when the entity is on record as erased and the event
        still says what it said.
        """
        ...

    async def entities(self, read_side: ReadSideId) -> Mapping[Shard, Collection[EntityId]]:
        """The entities that have dead letters."""
        ...

    async def counts(self, read_side: ReadSideId) -> Mapping[Shard, int]:
        """How many dead letters there are, in the shards that have any."""
        ...

    async def letters(
        self, read_side: ReadSideId, entity_id: EntityId | None, limit: int
    ) -> Page[DeadLetter]:
        """The oldest dead letters, of one entity or of all, by their offsets."""
        ...

    async def drop(
        self,
        read_side: ReadSideId,
        shard: Shard,
        entity_id: EntityId,
        revision: Revision | None,
        owner: Owner,
        *,
        confirmed: bool,
    ) -> int:
        """
        Forget one dead letter of the entity, or all; answer with how many that were.

        `confirmed`: they were handled; else they are stepped over by this.
        """
        ...

    async def make_way(self, read_side: ReadSideId, shard: Shard, entity_id: EntityId, owner: Owner) -> bool:
        """
        Forget those letters of an erased entity that say what its events said; whether none is left.

        What may be left are events that say nothing but that it is erased.
        """
        ...

    async def drop_after(self, read_side: ReadSideId, shard: Shard, offset: Offset, owner: Owner) -> None:
        """
        Forget the dead letters in the shard that lie after the offset, and what was stepped over there.

        They are going to be delivered again.
        """
        ...

    async def skip(self, read_side: ReadSideId, shard: Shard, event: JournaledEvent, owner: Owner) -> None:
        """Put down that this event is stepped over; once is enough."""
        ...

    async def skipped_of(self, read_side: ReadSideId, entity_id: EntityId) -> Collection[Revision]:
        """Which of the entity's events were stepped over, by their sequence numbers."""
        ...

    async def forget_skipped(
        self,
        read_side: ReadSideId,
        shard: Shard,
        entity_id: EntityId,
        revisions: Collection[Revision],
        owner: Owner,
    ) -> None:
        """These events of the entity are handled after all."""
        ...

    async def forget_skipped_after(
        self, read_side: ReadSideId, offsets: Mapping[Shard, Offset], owner: Owner
    ) -> None:
        """Forget what was stepped over after these offsets; nothing in shards that are others'."""
        ...

    async def is_left_out(self, read_side: ReadSideId, entity_id: EntityId, revision: Revision) -> bool:
        """Whether this event is set aside or was stepped over."""
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


class Publisher(Protocol):
    """Tells read sides that there is something new; losing a notice only costs time."""

    def appended(self, shards: Sequence[Shard]) -> None:
        """Events were stored in these shards. Returns at once, never raises."""
        ...
