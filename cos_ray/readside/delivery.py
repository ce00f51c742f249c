"""
Hands events to the read handler: many entities at once, one event of each at a time.

An event that is not confirmed is handed over again for ever, after growing waits. It holds
back its own entity and nobody else: while it waits it takes no place among the deliveries.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cos_ray.domain.errors import DeliveryFailed
from cos_ray.domain.messages import JournaledEvent
from cos_ray.ports import Clock, ReadHandler
from cos_ray.readside.projection import Projection
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.readside.tasks import Tasks


@dataclass(slots=True)
class _Parcel:
    """An event on its way, whose predecessors of the same entity are all confirmed."""

    projection: Projection
    event: JournaledEvent
    failures: int = 0


class Delivery:
    """The deliveries of one read side."""

    def __init__(
        self,
        settings: ReadSideSettings,
        handler: ReadHandler,
        clock: Clock,
        moved: Callable[[Projection], None],
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._clock = clock
        self._moved = moved
        """Called after each delivery, confirmed or not."""
        self._ready: deque[_Parcel] = deque()
        self._held_back: list[tuple[float, int, _Parcel]] = []
        self._tie_break = itertools.count()
        self._running = Tasks(self._start)
        self._is_closed = False

    def offer(self, projection: Projection, event: JournaledEvent) -> None:
        """Deliver this event as soon as there is a place. It must be its entity's next."""
        self._ready.append(_Parcel(projection, event))
        self._start()

    def retries_at(self) -> float:
        """When the next event that was not confirmed is due again."""
        return self._held_back[0][0] if self._held_back else math.inf

    def retry_due(self) -> None:
        """Deliver again what has waited long enough."""
        while self.retries_at() <= self._clock.monotonic():
            _, _, parcel = heapq.heappop(self._held_back)
            self._ready.append(parcel)
        self._start()

    def close(self) -> None:
        """Begin no further delivery; those under way go on."""
        self._is_closed = True

    async def idle(self) -> None:
        """Return when no delivery is under way."""
        await self._running.idle()

    async def cancel(self) -> None:
        """Cut short the deliveries under way; what becomes of them stays unknown."""
        self._is_closed = True
        await self._running.cancel()

    def raise_fault(self) -> None:
        """Raise what should never have been raised in a delivery."""
        self._running.raise_fault()

    def _start(self) -> None:
        while self._ready and len(self._running) < self._settings.concurrency and not self._is_closed:
            self._running.start(self._deliver(self._ready.popleft()))

    async def _deliver(self, parcel: _Parcel) -> None:
        projection, event = parcel.projection, parcel.event
        try:
            await self._handler.handle(self._settings.read_side, projection.shard, event.envelope)
        except asyncio.CancelledError:
            if self._is_closed:
                raise
            # Nobody here cancelled it: a client library does so when it loses its connection.
            self._hold_back(parcel, "cancelled")
        except DeliveryFailed as error:
            self._hold_back(parcel, str(error))
        except Exception as error:  # noqa: BLE001 - no fault of a handler may end its deliveries
            self._hold_back(parcel, f"{type(error).__name__}: {error}")
        else:
            following = projection.delivered(event)
            if following is not None:
                self._ready.append(_Parcel(projection, following))
        self._moved(projection)

    def _hold_back(self, parcel: _Parcel, reason: str) -> None:
        parcel.failures += 1
        wait = self._settings.delivery_retry.wait(parcel.failures).total_seconds()
        due = self._clock.monotonic() + wait
        heapq.heappush(self._held_back, (due, next(self._tie_break), parcel))
        parcel.projection.delivery_failed(parcel.event, reason, wait)
