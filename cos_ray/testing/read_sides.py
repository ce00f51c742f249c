"""
What a read side stands on, in memory: a journal to read, and time.

The journal can be told to fail, and to hide events, as a broken one would.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta, timezone

from google.protobuf.any_pb2 import Any

from cos_ray.domain.erasure import redacted_event
from cos_ray.domain.errors import HistoryWentBack, JournalUnavailable, UnreadableEvent
from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, JournaledEvent, Meta, Packed, RowIdentity
from cos_ray.domain.pages import Page
from cos_ray.domain.read_sides import Lag, Span, Start
from cos_ray.ports import NOTHING_KNOWN
from cos_ray.testing.pages import page_of


class MemoryEventSource:
    """An EventSource of events made up by `add`."""

    def __init__(self) -> None:
        self.reads: list[tuple[Shard, Offset]] = []
        """Every read: which shard, after which offset."""
        self.pages_of_entities: list[tuple[EntityId, Revision]] = []
        """Every read of one entity's events: whose, and from which on."""
        self.is_down = False
        self.error: Exception = JournalUnavailable("the journal is down")
        self.histories: dict[EntityId, int] = {}
        """How many events each entity has."""
        self._events: dict[Shard, list[JournaledEvent]] = defaultdict(list)
        self.unreadable: set[Offset] = set()
        """Where an event lies that nobody can read."""
        self.questions = 0
        """How often it was asked for news."""
        self.erased: set[EntityId] = set()
        """The entities that are on record as erased."""
        self._hidden: set[Offset] = set()
        self._newest = Offset(0)
        self._deleted_to: dict[Shard, Offset] = {}
        self._deleted: set[RowIdentity | None] = set()
        self.accepted: Mapping[tuple[ReadSideId, Shard], Offset] = {}
        """Up to where it is accepted that a read side has not seen what is deleted."""
        self._history = 0
        """How often it went back."""

    def add(self, shard: int, entity_id: str, count: int = 1, padding: int = 0) -> Offset:
        """Give the entity its next events, each so much longer; answer with the last one's offset."""
        for _ in range(count):
            id_ = EntityId(entity_id)
            revision = Revision(self.histories.get(id_, 0) + 1)
            self.histories[id_] = revision
            # Offsets have holes, as a sequence's numbers do.
            self._newest = Offset(self._newest + 1 + revision % 2)
            text = f"{entity_id}/{revision}".encode() + b"." * padding
            # An Any with nothing but a value.
            payload = Packed(Any(value=text).SerializeToString())
            envelope = EventEnvelope(payload, payload, Meta(id_, revision), revision)
            row = RowIdentity(self._newest, id_, revision, self._history)
            self._events[Shard(shard)].append(JournaledEvent(self._newest, envelope, row))
        return self._newest

    def bring_to_its_end(self, shard: int, entity_id: str) -> Offset:
        """Give the entity its last event, as an erasure begins; answer with its offset."""
        self.add(shard, entity_id)
        events = self._events[Shard(shard)]
        events[-1] = redacted_event(events[-1])
        return events[-1].offset

    def redact(self, shard: int, entity_id: str) -> None:
        """Put the entity on record as erased, and let its events say nothing any more."""
        self.erased.add(EntityId(entity_id))
        self._events[Shard(shard)] = [
            redacted_event(event) if event.envelope.meta.entity_id == entity_id else event
            for event in self._events[Shard(shard)]
        ]

    def go_back(self, offset: Offset) -> None:
        """Be an older journal, without what comes after the offset; the same offsets are given anew."""
        self._history += 1
        self._newest = offset
        for shard, events in self._events.items():
            self._events[shard] = [event for event in events if event.offset <= offset]
        self.histories = {}
        for event in itertools.chain.from_iterable(self._events.values()):
            id_ = event.envelope.meta.entity_id
            self.histories[id_] = max(self.histories.get(id_, 0), event.envelope.sequence_number)

    def delete(self, shard: int, offset: Offset) -> None:
        """Delete the shard's events up to the offset, for good."""
        self._deleted_to[Shard(shard)] = offset
        self._deleted |= {event.row for event in self._events[Shard(shard)] if event.offset <= offset}
        self._events[Shard(shard)] = [e for e in self._events[Shard(shard)] if e.offset > offset]

    def holds(self, row: RowIdentity) -> bool:
        """Whether the event is there as it was, or was deleted."""
        return row in self._deleted or any(
            event.row == row for event in itertools.chain.from_iterable(self._events.values())
        )

    def hide(self, offset: Offset) -> None:
        """Act as if this event were not there."""
        self._hidden.add(offset)

    def unhide(self) -> None:
        """Show everything again."""
        self._hidden.clear()

    def events(self, shard: int) -> list[JournaledEvent]:
        """All events of the shard."""
        return list(self._events[Shard(shard)])

    async def after(
        self, shard: Shard, offset: Offset, limit: int, known: RowIdentity | None = None
    ) -> Page[JournaledEvent]:
        """The shard's next events after the offset."""
        self.reads.append((shard, offset))
        if self.is_down:
            raise self.error
        later = (event for event in self._events[shard] if event.offset > offset)
        if known is not None and not self.holds(known):
            raise HistoryWentBack([shard])
        return self._readable(page_of((event for event in later if event.offset not in self._hidden), limit))

    async def stirring(
        self, offsets: Mapping[Shard, Offset], known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN
    ) -> Collection[Shard]:
        """Those of the shards that have events after their offset, or have lost the known one."""
        self.questions += 1
        if self.is_down:
            raise self.error
        return {
            shard
            for shard, offset in offsets.items()
            if any(e.offset > offset and e.offset not in self._hidden for e in self._events[shard])
            or (shard in known and not self.holds(known[shard]))
        }

    async def erased_of(self, entity_ids: Collection[EntityId]) -> Collection[EntityId]:
        """Those of the entities that are on record as erased."""
        if self.is_down:
            raise self.error
        return self.erased.intersection(entity_ids)

    async def lags(self, offsets: Mapping[Shard, Offset]) -> Mapping[Shard, Lag]:
        """What follows these offsets."""
        if self.is_down:
            raise self.error
        return {
            shard: Lag(sum(event.offset > offset for event in self._events[shard]))
            for shard, offset in offsets.items()
        }

    async def before(self, shards: Collection[Shard], date: datetime) -> Mapping[Shard, Offset]:
        """After which offsets all events since the date come; an event's date is its offset in seconds."""
        since = date.timestamp()
        return {
            shard: max((e.offset for e in self._events[shard] if e.offset < since), default=Offset(0))
            for shard in shards
        }

    async def events_of(self, entity_id: EntityId, first: Revision, limit: int) -> Page[JournaledEvent]:
        """The entity's events from this one on."""
        self.pages_of_entities.append((entity_id, first))
        if self.is_down:
            raise self.error
        found = (event for event in self._of(entity_id) if event.envelope.sequence_number >= first)
        return self._readable(page_of(found, limit))

    async def span_of(self, entity_id: EntityId, up_to: Offset) -> Span | None:
        """Which events the entity has up to this offset."""
        if self.is_down:
            raise self.error
        numbers = [e.envelope.sequence_number for e in self._of(entity_id) if e.offset <= up_to]
        return Span(len(numbers), numbers[0], numbers[-1]) if numbers else None

    async def starts(self, read_side: ReadSideId, offsets: Mapping[Shard, Offset]) -> Mapping[Shard, Start]:
        """What there is at these offsets."""
        if self.is_down:
            raise self.error
        rows = {e.offset: e.row for events in self._events.values() for e in events}
        end = max([self._newest, *rows])
        none = Offset(0)
        return {
            shard: Start(
                end,
                rows.get(offset),
                self._deleted_to.get(shard, none),
                self.accepted.get((read_side, shard), none),
            )
            for shard, offset in offsets.items()
        }

    async def place_of(self, entity_id: EntityId, sequence_number: Revision) -> Offset | None:
        """Where this event lies."""
        if self.is_down:
            raise self.error
        places = (e.offset for e in self._of(entity_id) if e.envelope.sequence_number == sequence_number)
        return next(places, None)

    def _of(self, entity_id: EntityId) -> list[JournaledEvent]:
        events = (event for shard in list(self._events.values()) for event in shard)
        ours = (event for event in events if event.envelope.meta.entity_id == entity_id)
        return [event for event in ours if event.offset not in self._hidden]

    def _readable(self, page: Page[JournaledEvent]) -> Page[JournaledEvent]:
        readable = list(itertools.takewhile(lambda event: event.offset not in self.unreadable, page))
        if page and not readable:
            raise UnreadableEvent("planted: cannot be read", page[0].offset)
        return Page(readable, has_more=page.has_more or len(readable) < len(page))


class SteppedClock:
    """A Clock that goes from one sleeper's time to the next, and only when told to."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._tie_break = itertools.count()

    def now(self) -> datetime:
        """The date and time."""
        return datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has come that far."""
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._tie_break), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Go on by so many seconds, letting everybody act at each moment something is due."""
        until = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self._elapsed = max(self._elapsed, due)
                future.set_result(None)
                await self.settle()
        self._elapsed = until
        await self.settle()

    async def until(self, condition: Callable[[], object], within: float = 120.0) -> None:
        """Go on until the condition holds; AssertionError when it does not within so many seconds."""
        deadline = self._elapsed + within
        await self.settle()
        while not condition():
            assert self._elapsed < deadline, f"not so within {within:g} s"
            await self.advance(0.05)

    async def settle(self) -> None:
        """Let everybody act who can without time going on."""
        for _ in range(30):
            await asyncio.sleep(0)
