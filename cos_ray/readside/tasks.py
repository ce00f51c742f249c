"""Tasks that run beside a loop: none is forgotten, none dies unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

from cos_ray.ports import Clock


class Tasks:
    """A set of running tasks. (`asyncio.TaskGroup` came with Python 3.11.)"""

    def __init__(self, finished: Callable[[], None]) -> None:
        self._running: dict[asyncio.Task[None], int] = {}
        self.weight = 0
        """Of all that run together, in whatever unit they are given."""
        self._finished = finished
        self._fault: BaseException | None = None
        self._is_cancelling = False
        self._given_up: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, None], weight: int = 0) -> asyncio.Task[None]:
        """Run this; `finished` is called when it is over, however it ends."""
        task = asyncio.create_task(work)
        self._running[task] = weight
        self.weight += weight
        task.add_done_callback(self._end)
        return task

    def give_up(self, task: asyncio.Task[None]) -> None:
        """Cut one of them short; that is no fault of it."""
        if not task.done():
            self._given_up.add(task)
            task.cancel()

    def raise_fault(self) -> None:
        """Raise what a task raised, if one did: nothing is foreseen to."""
        if self._fault is not None:
            raise self._fault

    async def idle(self) -> None:
        """Return when none is running."""
        while self._running:
            await asyncio.wait(self._running)

    async def cancel(self) -> None:
        """Cut short those that run, for good, and return when they are over."""
        self._is_cancelling = True
        for task in self._running:
            task.cancel()
        await self.idle()

    def _end(self, task: asyncio.Task[None]) -> None:
        self.weight -= self._running.pop(task, 0)
        if not task.cancelled():
            self._fault = self._fault or task.exception()
        elif not self._is_cancelling and task not in self._given_up:
            self._fault = RuntimeError("a task was cancelled by someone else")
        self._given_up.discard(task)
        self._finished()


async def within(clock: Clock, time: timedelta, work: Awaitable[None]) -> bool:
    """Whether this was done in so much time; if not, it is cancelled."""
    task = asyncio.ensure_future(work)
    alarm = asyncio.ensure_future(clock.sleep(time.total_seconds()))
    try:
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        task.cancel()
        alarm.cancel()
