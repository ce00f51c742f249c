"""
Keeps a read side running: whatever ends it unforeseen is logged, and it begins anew.

A new one starts from the saved offsets, so nothing is lost by it; some events come twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from cos_ray.domain.errors import ReadSideUnavailable
from cos_ray.domain.failure_policy import Backoff
from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.read_sides import Obeyed, Order
from cos_ray.ports import Clock

logger = logging.getLogger(__name__)

RESTARTS = Backoff()
"""How long to wait before a read side that fell over begins anew."""


class Runnable(Protocol):
    """A read side with all that it holds open."""

    async def run(self) -> None:
        """Deliver until stopped; raises what nothing foresees."""
        ...

    async def stop(self) -> None:
        """End `run` in good order."""
        ...

    async def close(self) -> None:
        """Let go of connections, once it does not run any more."""
        ...

    def notify(self, shards: Iterable[Shard]) -> None:
        """Look for new events in these shards now."""
        ...

    async def obey(self, order: Order) -> Obeyed:
        """Do what an operator wants. Raises JournalUnavailable."""
        ...

    async def handled(
        self, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool | None:
        """Whether this event is confirmed, now or within so many seconds; None: not our shard."""
        ...


class ReadSideSupervisor:
    """Runs one read side after the other, until stopped."""

    def __init__(self, read_side: ReadSideId, build: Callable[[], Awaitable[Runnable]], clock: Clock) -> None:
        self._read_side = read_side
        self._build = build
        self._clock = clock
        self._current: Runnable | None = None
        self._has_begun = False
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Return once stopped."""
        self._has_begun = True
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    await self._run_once()
                except Exception:
                    failures += 1
                    wait = RESTARTS.wait(failures).total_seconds()
                    facts = {"read_side": self._read_side, "again_in": wait}
                    logger.exception("read side fell over", extra=facts)
                    await self._rest(wait)
        finally:
            self._over.set()

    async def stop(self) -> None:
        """
        Stop taking events, let those in progress end, save the offsets, let go of connections.

        Returns when nothing runs any more, also when it is called while a read side is being built or
        waits to be built again, and before `run`: then that returns at once.
        """
        self._stopping.set()
        if self._current is not None:
            await self._current.stop()
        if self._has_begun:
            await self._over.wait()

    def notify(self, shards: Iterable[Shard]) -> None:
        """Look for new events in these shards now."""
        if self._current is not None:
            self._current.notify(shards)

    async def obey(self, order: Order) -> Obeyed:
        """Do what an operator wants. Raises JournalUnavailable, and ReadSideUnavailable between two runs."""
        if self._current is None:
            raise ReadSideUnavailable(f"read side {self._read_side} is being started; try again")
        return await self._current.obey(order)

    async def handled(
        self, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool | None:
        """Whether this event is confirmed, now or within so many seconds; None: the shard is not ours."""
        if self._current is None:
            return None
        return await self._current.handled(shard, entity_id, revision, timeout)

    async def _run_once(self) -> None:
        current = await self._build()
        try:
            # It may have been stopped meanwhile, and nobody would hear of it.
            if not self._stopping.is_set():
                self._current = current
                await current.run()
        finally:
            self._current = None
            await current.close()

    async def _rest(self, seconds: float) -> None:
        """Return after so many seconds, or when stopped."""
        alarm = asyncio.ensure_future(self._clock.sleep(seconds))
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({alarm, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            stopped.cancel()
