"""How a read side reads: pages, notifier, several shards at once, gaps; with time that moves when told to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from cos_ray.domain.ids import Offset, Shard
from cos_ray.domain.messages import JournaledEvent, RowIdentity
from cos_ray.domain.read_sides import ShardState
from cos_ray.testing.read_sides import MemoryEventSource
from tests.support.read_side import World


class SlowSource(MemoryEventSource):
    """A source whose reads see what there is at their beginning, and end when the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def after(
        self, shard: Shard, offset: Offset, limit: int, known: RowIdentity | None = None
    ) -> Sequence[JournaledEvent]:
        events = await super().after(shard, offset, limit, known)
        await self.gate.wait()
        return events


@pytest.fixture
def world() -> World:
    return World()


class TestReading:
    async def test_a_poke_is_answered_at_once(self, world):
        async with world.running() as read_side:
            await world.clock.advance(20.01)
            now = world.clock.monotonic()
            world.source.add(1, "a")
            read_side.notify([Shard(1)])
            await world.clock.settle()
            assert (world.handler.confirmed("a"), world.clock.monotonic()) == ([1], now)

    async def test_without_pokes_events_are_found_by_polling(self, world):
        async with world.running():
            await world.clock.advance(20)
            world.source.add(1, "a")
            await world.clock.advance(1)
            assert world.handler.confirmed("a") == [1]

    async def test_an_idle_shard_is_polled_less_often_and_a_busy_one_again_more(self, world):
        async with world.running(shards=range(16)):
            await world.clock.advance(30)
            idle = world.source.questions
            # One question for all shards, and no reads.
            assert idle <= 33
            assert len(world.source.reads) == 16
            for _ in range(40):
                world.source.add(0, "a")
                await world.clock.advance(0.25)
            assert world.source.questions - idle >= 35

    async def test_a_poke_during_a_read_leads_to_another_read(self, world):
        world.source = SlowSource()
        async with world.running(shards=[0]) as read_side:
            world.source.add(0, "a")
            read_side.notify([Shard(0)])
            world.source.gate.set()
            await world.clock.settle()
            assert world.handler.confirmed("a") == [1]

    async def test_a_shard_is_never_read_twice_at_once(self, world):
        world.source = SlowSource()
        async with world.running(shards=[0]) as read_side:
            for _ in range(10):
                read_side.notify([Shard(0)])
                await world.clock.advance(1)
            assert len(world.source.reads) == 1

    async def test_a_read_that_hangs_leaves_the_loop_at_rest(self, world):
        world.source = SlowSource()
        async with world.running(shards=range(10), reads_at_once=2) as read_side:
            looks = 0
            monotonic = world.clock.monotonic

            def counted() -> float:
                nonlocal looks
                looks += 1
                return monotonic()

            world.clock.monotonic = counted
            read_side.notify([Shard(5)])
            await world.clock.settle()
            await world.clock.settle()
            assert looks < 10
            assert len(world.source.reads) == 2

    async def test_a_busy_shard_does_not_starve_the_others(self, world):
        world.source.add(0, "busy", 300)
        world.source.add(1, "rare")
        async with world.running(reads_at_once=1, batch=1):
            await world.clock.until(lambda: world.handler.confirmed("rare"))
            order = [attempt.entity_id for attempt in world.handler.attempts]
            assert order.index("rare") < 5
            await world.clock.until(world.all_confirmed)

    async def test_few_shards_are_read_at_once_and_none_is_forgotten(self, world):
        for shard in range(50):
            world.source.add(shard, f"e{shard}", 3)
        async with world.running(shards=range(50), reads_at_once=2):
            await world.clock.until(world.all_confirmed)

    async def test_a_journal_that_is_down_is_survived(self, world):
        async with world.running():
            await world.clock.advance(1)
            world.source.is_down = True
            world.source.add(0, "a", 2)
            await world.clock.until(lambda: world.shard(0).state is ShardState.RETRYING)
            await world.clock.advance(100)
            assert world.shard(0).last_error.reason == "the journal is down"
            world.source.is_down = False
            await world.clock.until(world.all_confirmed, within=5.1)
            assert world.shard(0).state is ShardState.RUNNING

    async def test_an_unforeseen_error_of_the_journal_is_survived_too(self, world):
        async with world.running():
            await world.clock.until(lambda: world.shard(0).state is ShardState.RUNNING)
            world.source.add(0, "a")
            world.source.is_down, world.source.error = True, ValueError("a row that cannot be read")
            await world.clock.until(lambda: world.shard(0).state is ShardState.RETRYING)
            world.source.is_down = False
            await world.clock.until(world.all_confirmed)

    async def test_pokes_do_not_hurry_a_journal_that_is_down(self, world):
        world.source.is_down = True
        async with world.running(shards=[0]) as read_side:
            await world.clock.advance(10)
            reads = len(world.source.reads)
            for _ in range(100):
                read_side.notify([Shard(0)])
                await world.clock.advance(0.01)
            assert len(world.source.reads) - reads <= 1


class TestGaps:
    async def test_a_shard_with_a_gap_stalls_loudly_and_goes_on_when_it_is_filled(self, world, caplog):
        world.source.add(0, "a", 2)
        hidden = world.source.add(0, "a")
        world.source.hide(hidden)
        world.source.add(0, "a", 3)
        world.source.add(0, "b")
        world.source.add(1, "c", 5)
        async with world.running() as read_side:
            await world.clock.until(lambda: world.shard(0).state is ShardState.STALLED)
            for _ in range(100):
                read_side.notify([Shard(0)])
                await world.clock.advance(1)
            assert world.handler.confirmed("a") == [1, 2]
            assert world.handler.confirmed("b") == []
            assert world.handler.confirmed("c") == [1, 2, 3, 4, 5]
            assert world.saved(0) < hidden
            gaps = [record for record in caplog.records if record.levelno == logging.ERROR]
            assert gaps
            assert (gaps[0].entity_id, gaps[0].shard) == ("a", 0)
            assert world.shard(0).last_error.entity_id == "a"
            world.source.unhide()
            await world.clock.until(world.all_confirmed)
            assert world.shard(0).state is ShardState.RUNNING

    async def test_a_gap_between_two_reads_is_noticed(self, world):
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(world.all_confirmed)
            world.source.hide(world.source.add(0, "a"))
            world.source.add(0, "a")
            await world.clock.advance(60)
            assert world.handler.confirmed("a") == [1, 2]
            assert world.shard(0).state is ShardState.STALLED
