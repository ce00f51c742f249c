"""A read side that falls over begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cos_ray.domain.ids import ReadSideId, Shard
from cos_ray.readside.supervisor import ReadSideSupervisor
from cos_ray.testing.clock import ManualClock


class Life:
    """One run of a read side: ends by an error, or when stopped."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.stopped = asyncio.Event()
        self.is_closed = False
        self.notified: list[Shard] = []

    async def run(self) -> None:
        if self.error is not None:
            raise self.error
        await self.stopped.wait()

    async def stop(self) -> None:
        self.stopped.set()

    async def close(self) -> None:
        self.is_closed = True

    def notify(self, shards: Iterable[Shard]) -> None:
        self.notified.extend(shards)


async def test_whatever_ends_a_read_side_it_begins_anew_after_a_while_and_is_closed_each_time() -> None:
    lives = [Life(ValueError("unforeseen")), Life(RuntimeError("unforeseen")), Life(None)]
    waiting = list(lives)

    async def build() -> Life:
        return waiting.pop(0)

    clock = ManualClock()
    supervisor = ReadSideSupervisor(ReadSideId("r"), build, clock)
    running = asyncio.ensure_future(supervisor.run())
    await clock.pass_time(0.5)
    assert len(waiting) == 2
    await clock.pass_time(3)
    assert waiting == []
    assert [life.is_closed for life in lives] == [True, True, False]
    supervisor.notify([Shard(3)])
    assert lives[2].notified == [3]
    await supervisor.stop()
    await running
    assert lives[2].is_closed


async def test_one_that_cannot_be_built_is_tried_again() -> None:
    tries = 0

    async def build() -> Life:
        nonlocal tries
        tries += 1
        raise OSError("no")

    clock = ManualClock()
    supervisor = ReadSideSupervisor(ReadSideId("r"), build, clock)
    running = asyncio.ensure_future(supervisor.run())
    await clock.pass_time(10)
    assert tries == 4
    # It waits to try again, and is not waited for.
    await supervisor.stop()
    assert running.done()
    assert tries == 4


async def test_stopped_while_it_is_being_built_it_does_not_run_and_is_closed() -> None:
    life, may_build = Life(None), asyncio.Event()
    ran = False

    async def run() -> None:
        nonlocal ran
        ran = True

    life.run = run  # type: ignore[method-assign]

    async def build() -> Life:
        await may_build.wait()
        return life

    clock = ManualClock()
    supervisor = ReadSideSupervisor(ReadSideId("r"), build, clock)
    running = asyncio.ensure_future(supervisor.run())
    await clock.pass_time(1)
    stopping = asyncio.ensure_future(supervisor.stop())
    await clock.pass_time(1)
    assert not stopping.done()
    may_build.set()
    await clock.pass_time(1)
    assert stopping.done()
    assert (ran, life.is_closed, running.done()) == (False, True, True)


async def test_stopped_before_it_begins_it_builds_nothing() -> None:
    async def build() -> Life:
        raise AssertionError

    supervisor = ReadSideSupervisor(ReadSideId("r"), build, ManualClock())
    await supervisor.stop()
    await supervisor.run()
