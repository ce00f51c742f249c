"""A clock that stands still until the test moves it."""

from __future__ import annotations

import asyncio
import heapq
from datetime import datetime, timedelta, timezone
from itertools import count

_BEGINNING = datetime(2026, 1, 1, tzinfo=timezone.utc)

_TURNS = 25
"""How often others get to run after each moment: enough for any chain of awaits in the flows."""


class ManualClock:
    """`Clock` by hand. Sleepers wake in the order of their times, each at its own."""

    def __init__(self, now: datetime = _BEGINNING) -> None:
        self._beginning = now
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = count()

    def now(self) -> datetime:
        """The date and time the test has come to."""
        return self._beginning + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._number), waker))
        await waker

    @property
    def sleepers(self) -> int:
        """How many wait for their time to come."""
        return sum(not waker.done() for _, _, waker in self._sleepers)

    def advance(self, by: timedelta | float) -> None:
        """Move on by so much (a number: seconds); whoever's time has come wakes when the test awaits."""
        self._elapsed += _seconds(by)
        while (due := self._next_due()) is not None and due <= self._elapsed:
            self._wake_next()

    async def pass_time(self, by: timedelta | float) -> None:
        """Move on from moment to moment, so that who wakes may act, and sleep again, in between."""
        until = self._elapsed + _seconds(by)
        await _let_others_run()
        while (due := self._next_due()) is not None and due <= until:
            self._elapsed = max(self._elapsed, due)
            self._wake_next()
            await _let_others_run()
        self._elapsed = until

    def _next_due(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _wake_next(self) -> None:
        heapq.heappop(self._sleepers)[2].set_result(None)


def _seconds(duration: timedelta | float) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


async def _let_others_run() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
