"""What one client has yet to take of the events it listens to."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from cos_ray.domain.erasure import redacted_event
from cos_ray.domain.errors import Code, CosError, Status
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import JournaledEvent

TOO_SLOW = Status(
    Code.RESOURCE_EXHAUSTED, "too slow: events came faster than they were taken; subscribe again from there"
)


class SubscriptionEnded(CosError):
    """A subscription is over, and not because the client wanted it; the status says why."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait for one client before it counts as too slow."""

    events: int = 1_000
    size: int = 8 * 1024 * 1024
    """Of events and states, in bytes; a single event may be larger."""


class Listener:
    """A bounded line of events, and the word that it is over."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._line: deque[JournaledEvent] = deque()
        self._size = 0
        self._end: Status | None = None
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def has_overflowed(self) -> bool:
        """Whether more came than may wait."""
        return self._end is TOO_SLOW

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes in."""
        return self._is_over

    def offer(self, event: JournaledEvent) -> None:
        """Put an event into the line; one too many ends it all."""
        if self._is_over:
            return
        size = _size_of(event)
        if self._line and (len(self._line) >= self._bounds.events or self._size + size > self._bounds.size):
            # What waited is let go: the client that comes back reads it from the journal.
            self._line.clear()
            self._size = 0
            self.end(TOO_SLOW)
            return
        self._line.append(event)
        self._size += size
        self._wake()

    def redact(self, entity_id: EntityId) -> None:
        """The entity is erased: let what is in line of it say nothing any more."""
        for place, event in enumerate(self._line):
            if event.envelope.meta.entity_id == entity_id:
                self._line[place] = redacted_event(event)
        self._size = sum(map(_size_of, self._line))

    def end(self, status: Status | None) -> None:
        """No more events after those in line. None: in good order. The first word counts."""
        if not self._is_over:
            self._is_over, self._end = True, status
            self._wake()

    async def next(self) -> JournaledEvent | None:
        """The next event, None after the last. Raises SubscriptionEnded."""
        while not self._line:
            if self._is_over:
                self.raise_end()
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        event = self._line.popleft()
        self._size -= _size_of(event)
        return event

    def raise_end(self) -> None:
        """Raise SubscriptionEnded if it was not in good order."""
        if self._end is not None:
            raise SubscriptionEnded(self._end)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _size_of(event: JournaledEvent) -> int:
    return len(event.envelope.event) + len(event.envelope.resulting_state)
