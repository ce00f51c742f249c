"""
The subscriptions of one process: opened, found by their ids, ended.

A client that fell behind, or whose process goes away, is told so by a status, and comes back with
the place it had come to. Nothing is kept for it here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum

from cos_ray.domain.erasure import KNOWN_WITHIN
from cos_ray.domain.errors import Code, HistoryWentBack, JournalUnavailable, Status
from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import JournaledEvent
from cos_ray.ports import Clock, JournalTail, SubscriptionMeter, Unmeasured
from cos_ray.subscriptions.failover_check import WENT_BACK, Lost, status_of
from cos_ray.subscriptions.feed import Feed
from cos_ray.subscriptions.listener import TOO_SLOW, Bounds, Listener, SubscriptionEnded
from cos_ray.subscriptions.live_tail import LiveTail, TailPolicy
from cos_ray.subscriptions.stored_events import (
    NoStoredEvents,
    StoredEvents,
    StoredEventsOfAll,
    StoredEventsOfEntity,
)

DRAINED = Status(Code.UNAVAILABLE, "this process stops; subscribe again from where you are")
_NO_JOURNAL = Status(Code.UNAVAILABLE, "the journal is unavailable")

_UNMEASURED = Unmeasured()

CATCHES_UP = 10
"""How often a client may be overtaken by live events while it reads the past."""


class Kind(Enum):
    """What a subscription is to; ids are of one kind."""

    ENTITY = "entity"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class SubscriptionPolicy:
    """What subscriptions may use."""

    streams: int = 5_000
    """How many there may be in one process."""
    streams_per_client: int = 1_000
    """How many one client may have of them."""
    bounds: Bounds = Bounds()  # noqa: RUF009
    tail: TailPolicy = TailPolicy()  # noqa: RUF009


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client subscribes to, and from where on; at most one of the two places is given."""

    subscription_id: str
    entity_id: EntityId | None = None
    """None: all entities."""
    first_revision: Revision | None = None
    """With an entity: from this revision on, it included; 0: from the oldest event there is."""
    after: Offset | None = None
    """Without one: from the next event after this offset on."""
    client: Hashable = None
    """Who asks, to count its streams; None: uncounted."""

    @property
    def kind(self) -> Kind:
        """What it is to."""
        return Kind.ALL if self.entity_id is None else Kind.ENTITY


class Subscriptions:
    """All of them that this process serves."""

    def __init__(
        self,
        journal: JournalTail,
        clock: Clock,
        policy: SubscriptionPolicy | None = None,
        meter: SubscriptionMeter = _UNMEASURED,
    ) -> None:
        self._meter = meter
        self._journal, self._clock = journal, clock
        self._policy = policy or SubscriptionPolicy()
        self._feed = Feed()
        self._tail = LiveTail(journal, self._feed, clock, self._policy.tail, self._go_back)
        self._open: dict[tuple[Kind, str], set[_Stream]] = {}
        self._count = 0
        self._of_client: Counter[Hashable] = Counter()
        self._is_draining = False

    def __len__(self) -> int:
        return self._count

    def notify(self) -> None:
        """Something was stored: look at once, if anyone listens."""
        if self._count:
            self._tail.notify()

    async def events(
        self, wanted: Wanted, on_open: Callable[[], object] | None = None
    ) -> AsyncGenerator[JournaledEvent, None]:
        """
        The wanted events, without gap or repetition, until somebody ends it.

        `on_open` is called when nothing that is stored from then on will be missed. Raises
        SubscriptionEnded with what the client is to be told.
        """
        self._admit(wanted)
        stream = _Stream(wanted.entity_id)
        self._add(wanted, stream)
        try:
            await self._tail.start()
            if on_open is not None:
                on_open()
            async with aclosing(self._stream(wanted, stream)) as events:
                async for event in events:
                    self._meter.sent()
                    yield event
        except Completed:
            return
        except SubscriptionEnded as ended:
            if ended.status is TOO_SLOW:
                self._meter.cut()
            raise
        except HistoryWentBack:
            raise SubscriptionEnded(WENT_BACK) from None
        except JournalUnavailable:
            raise SubscriptionEnded(_NO_JOURNAL) from None
        finally:
            self._remove(wanted, stream)

    def end(self, kind: Kind, subscription_id: str) -> bool:
        """Complete those of this id in good order; whether there were any."""
        streams = self._open.get((kind, subscription_id), ())
        for stream in streams:
            stream.end(None)
        return bool(streams)

    def drain(self) -> None:
        """End all and let no new ones in: the clients come back to another process."""
        self._is_draining = True
        for streams in self._open.values():
            for stream in streams:
                stream.end(DRAINED)

    def close(self) -> None:
        """End all, and read no more."""
        self.drain()
        self._tail.stop()

    def _go_back(self, lost: Lost) -> None:
        """End all: whoever comes back with the place it had come to would leave out what is there now."""
        for streams in self._open.values():
            for stream in streams:
                stream.end(status_of(lost, stream.entity_id))

    async def _stream(self, wanted: Wanted, stream: _Stream) -> AsyncGenerator[JournaledEvent, None]:
        past = self._past(wanted)
        # Long histories are read before anything has to wait for it.
        async for event in self._read(past, stream, once=False):
            yield event
        for attempt in range(CATCHES_UP):
            listener = stream.listen(self._policy.bounds)
            # The two are one step: what the tail tells of from here on is heard, the rest is read.
            self._feed.add(wanted.entity_id, listener)
            try:
                async for event in self._read(past, stream, once=True):
                    yield event
                if listener.has_overflowed and attempt < CATCHES_UP - 1:
                    continue
                while (heard := await listener.next()) is not None:
                    if past.wants(heard):
                        yield heard
                return
            finally:
                self._feed.remove(wanted.entity_id, listener)

    async def _read(
        self, past: StoredEvents, stream: _Stream, *, once: bool
    ) -> AsyncGenerator[JournaledEvent, None]:
        """What there is up to where the tail is: where it is now, or where it has come to by then."""
        stream.raise_end()
        up_to = self._tail.position
        while True:
            stream.raise_end()
            read_at = self._clock.monotonic()
            page = await past.page(up_to)
            for place, event in enumerate(page):
                if place and self._clock.monotonic() > read_at + KNOWN_WITHIN.total_seconds():
                    # Its client is slow: the entity may have been erased since.
                    past.go_back_to(event)
                    break
                yield event
            if not page:
                stream.raise_end()
                if once or up_to == self._tail.position:
                    return
                once, up_to = True, self._tail.position

    def _past(self, wanted: Wanted) -> StoredEvents:
        if wanted.after is not None:
            return StoredEventsOfAll(self._journal, wanted.after)
        if wanted.entity_id is not None and wanted.first_revision is not None:
            return StoredEventsOfEntity(self._journal, wanted.entity_id, wanted.first_revision)
        return NoStoredEvents()

    def _admit(self, wanted: Wanted) -> None:
        if self._is_draining:
            raise SubscriptionEnded(DRAINED)
        if self._count >= self._policy.streams:
            raise SubscriptionEnded(Status(Code.RESOURCE_EXHAUSTED, "too many subscriptions are open"))
        most = self._policy.streams_per_client
        if wanted.client is not None and self._of_client[wanted.client] >= most:
            message = f"a client may have {most} subscriptions at once"
            raise SubscriptionEnded(Status(Code.RESOURCE_EXHAUSTED, message))

    def _add(self, wanted: Wanted, stream: _Stream) -> None:
        self._open.setdefault((wanted.kind, wanted.subscription_id), set()).add(stream)
        self._of_client[wanted.client] += 1
        self._count += 1

    def _remove(self, wanted: Wanted, stream: _Stream) -> None:
        key = (wanted.kind, wanted.subscription_id)
        self._open[key].discard(stream)
        if not self._open[key]:
            del self._open[key]
        self._of_client[wanted.client] -= 1
        if not self._of_client[wanted.client]:
            del self._of_client[wanted.client]
        self._count -= 1
        if not self._count:
            self._tail.stop()


class _Stream:
    """One open subscription: the listener it has at the moment, or the word that it is over."""

    def __init__(self, entity_id: EntityId | None) -> None:
        self.entity_id = entity_id
        """Whose events it is of; None: of all."""
        self._listener = Listener(Bounds())

    def listen(self, bounds: Bounds) -> Listener:
        """A new listener; over at once if the stream is."""
        before, self._listener = self._listener, Listener(bounds)
        if before.is_over and not before.has_overflowed:
            self._listener = before
        return self._listener

    def end(self, status: Status | None) -> None:
        """End it with this status; None: in good order."""
        if self._listener.has_overflowed:
            # That only means that it reads on in the journal.
            self._listener = Listener(Bounds())
        self._listener.end(status)

    def raise_end(self) -> None:
        """Raise SubscriptionEnded or Completed if it was ended from outside."""
        if self._listener.is_over and not self._listener.has_overflowed:
            self._listener.raise_end()
            raise Completed


class Completed(Exception):
    """A subscription was ended in good order before it came to live events."""
