"""A read side at work: order, progress, failure, stopping; with time that moves when told to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

import pytest

from cos_ray.domain.errors import Code, DeliveryFailed
from cos_ray.domain.ids import Offset, Owner, ReadSideId, Shard
from cos_ray.domain.messages import JournaledEvent, RowIdentity
from cos_ray.domain.read_sides import ShardState
from cos_ray.ports import NOTHING_KNOWN
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.testing.offsets import MemoryReadSides
from cos_ray.testing.read_handlers import RecordingReadHandler
from cos_ray.testing.read_sides import MemoryEventSource
from tests.support.read_side import READ_SIDE, World


class SlowStore(MemoryReadSides):
    """A store whose saves begin at once and end when the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.begun = 0

    async def save(
        self,
        read_side: ReadSideId,
        offsets: Mapping[Shard, Offset],
        owner: Owner,
        known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN,
    ) -> Collection[Shard]:
        self.begun += 1
        await self.gate.wait()
        return await super().save(read_side, offsets, owner, known)


@pytest.fixture
def world() -> World:
    return World()


class TestDelivery:
    async def test_every_event_is_delivered_in_order_and_its_offset_saved(self, world):
        last = {shard: world.source.add(shard, f"e{shard}", 450) for shard in (0, 1)}
        async with world.running():
            await world.clock.until(world.all_confirmed)
            await world.clock.until(lambda: {shard: world.saved(shard) for shard in (0, 1)} == last)

    async def test_the_handler_is_given_read_side_shard_and_envelope(self, world):
        world.source.add(1, "a")
        async with world.running():
            await world.clock.until(world.all_confirmed)
        (attempt,) = world.handler.attempts
        assert (attempt.read_side, attempt.shard) == (READ_SIDE, 1)
        assert attempt.envelope is world.source.events(1)[0].envelope

    async def test_a_shard_that_is_not_ours_is_left_alone(self, world):
        world.source.add(0, "a")
        world.source.add(7, "b")
        async with world.running(shards=[0]) as read_side:
            read_side.notify([Shard(7)])
            await world.clock.advance(10)
        assert [attempt.entity_id for attempt in world.handler.attempts] == ["a"]

    async def test_it_goes_on_after_the_saved_offset(self, world):
        last = world.source.add(0, "a", 3)
        world.offsets.offsets[READ_SIDE][Shard(0)] = last
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(lambda: world.handler.confirmed("a") == [4, 5])

    async def test_different_entities_are_delivered_concurrently_up_to_the_bound(self, world):
        gate = world.handler.hang()
        for entity in range(20):
            world.source.add(entity % 2, f"e{entity}")
        async with world.running(concurrency=6):
            await world.clock.advance(5)
            assert world.handler.under_way == 6
            gate.set()
            await world.clock.until(world.all_confirmed)
        assert world.handler.most_at_once == 6

    async def test_a_handler_that_runs_out_of_time_is_sent_fewer_and_later_more_again(self, world):
        world.handler.fail(error=DeliveryFailed("too slow", Code.DEADLINE_EXCEEDED))
        for entity in range(300):
            world.source.add(entity % 2, f"e{entity}")
        async with world.running(concurrency=100):
            await world.clock.advance(30)
            world.handler.heal()
            gate = world.handler.hang()
            world.handler.under_way = world.handler.most_at_once = 0
            await world.clock.advance(40)
            assert world.handler.under_way < 10
            gate.set()
            await world.clock.until(world.all_confirmed)
            world.handler.most_at_once = 0
            gate = world.handler.hang()
            for entity in range(200):
                world.source.add(entity % 2, f"f{entity}")
            await world.clock.advance(5)
            assert 20 < world.handler.under_way <= 100
            gate.set()
            await world.clock.until(world.all_confirmed)

    async def test_one_entitys_next_event_waits_for_its_predecessor(self, world):
        gate = world.handler.hang("a", 1)
        world.source.add(0, "a", 5)
        async with world.running():
            await world.clock.advance(5)
            assert len(world.handler.attempts) == 1
            gate.set()
            await world.clock.until(world.all_confirmed)


class TestFailure:
    async def test_an_event_not_confirmed_is_delivered_again_after_growing_waits(self, world):
        times = []

        async def note_time(_attempt):
            times.append(world.clock.monotonic())

        world.handler = RecordingReadHandler(before=note_time)
        world.handler.fail("a", 1, times=8)
        world.source.add(0, "a")
        async with world.running():
            await world.clock.until(world.all_confirmed, within=300)
        waits = [round(later - earlier) for earlier, later in pairwise(times)]
        assert waits == [1, 2, 4, 8, 16, 30, 30, 30]

    async def test_a_failing_entity_holds_back_itself_and_the_offset_and_nobody_else(self, world):
        world.handler.fail("bad", 2)
        before = world.source.add(0, "bad")
        world.source.add(0, "bad", 4)
        world.source.add(0, "good", 50)
        elsewhere = world.source.add(1, "other", 50)
        async with world.running():
            await world.clock.until(lambda: len(world.handler.confirmed("good")) == 50)
            await world.clock.until(lambda: world.saved(1) == elsewhere)
            await world.clock.advance(100)
            assert world.handler.confirmed("bad") == [1]
            assert (world.saved(0), world.shard(0).offset) == (before, before)
            world.handler.heal()
            await world.clock.until(world.all_confirmed)
            await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)

    @pytest.mark.parametrize("error", [RuntimeError("a bug"), asyncio.CancelledError()])
    async def test_a_handlers_own_fault_is_a_failed_delivery(self, world, error):
        world.handler.fail("a", 1, times=2, error=error)
        world.source.add(0, "a", 3)
        async with world.running():
            await world.clock.until(world.all_confirmed)
            assert world.shard(0).failures == 2

    async def test_status_tells_who_fails_and_that_it_recovered(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 3)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).state is ShardState.RETRYING)
            error = world.shard(0).last_error
            assert (error.reason, error.entity_id, error.revision) == ("planted", "a", 2)
            assert world.shard(1).state is ShardState.RUNNING
            world.handler.heal()
            await world.clock.until(world.all_confirmed)
            status = world.shard(0)
            assert (status.state, status.deliveries, status.pending) == (ShardState.RUNNING, 3, 0)
            assert status.failures >= 1
        assert world.shard(0).state is ShardState.STOPPED

    async def test_a_handler_that_is_down_is_logged_now_and_then_not_each_time(self, world, caplog):
        caplog.set_level(logging.WARNING, "cos_ray.readside")
        world.handler.fail()
        for entity in range(100):
            world.source.add(0, f"e{entity}")
        async with world.running():
            await world.clock.advance(60)
            assert len(world.handler.attempts) > 300
            assert 2 <= len(caplog.records) <= 7
            assert caplog.records[-1].failing_entities == 100


class TestOffsets:
    async def test_offsets_are_saved_in_batches(self, world):
        world.source.add(0, "a", 300)
        world.source.add(1, "b", 300)
        async with world.running():
            await world.clock.until(lambda: world.saved(1) and world.saved(0))
        assert len(world.offsets.saves) <= 4

    async def test_an_offset_is_saved_within_a_tenth_of_a_second(self, world):
        async with world.running() as read_side:
            await world.clock.advance(7)
            last = world.source.add(0, "a")
            read_side.notify([Shard(0)])
            await world.clock.advance(0.11)
            assert world.saved(0) == last

    async def test_many_deliveries_are_saved_before_their_time(self, world):
        last = world.source.add(0, "a", 50)
        async with world.running(save_every=10, save_after=timedelta(hours=1)):
            await world.clock.settle()
            await world.clock.settle()
            await world.clock.until(lambda: world.saved(0) == last, within=1)

    async def test_nothing_is_saved_where_nothing_moved(self, world):
        world.handler.fail()
        world.source.add(0, "a")
        async with world.running():
            await world.clock.advance(60)
        assert world.offsets.saves == []

    async def test_a_save_holds_only_what_moved_since_the_last(self, world):
        async with world.running():
            for shard in (0, 1, 0):
                world.source.add(shard, f"e{shard}")
                await world.clock.advance(2)
        assert [list(save) for save in world.offsets.saves] == [[0], [1], [0]]

    async def test_saves_come_one_after_the_other_the_last_one_too(self, world):
        world.offsets = SlowStore()
        world.source.add(0, "a")
        async with world.running() as read_side:
            await world.clock.advance(2)
            last = world.source.add(0, "a", 20)
            await world.clock.advance(2)
            stop = asyncio.ensure_future(read_side.stop())
            await world.clock.advance(2)
            assert (world.offsets.begun, stop.done()) == (1, False)
            world.offsets.gate.set()
            await world.clock.settle()
            assert (world.offsets.begun, stop.done()) == (2, True)
        assert world.saved(0) == last

    async def test_offsets_that_cannot_be_saved_are_saved_later(self, world):
        last = world.source.add(0, "a", 3)
        async with world.running():
            world.offsets.is_down = True
            await world.clock.until(world.all_confirmed)
            await world.clock.advance(60)
            assert world.saved(0) == 0
            world.offsets.is_down = False
            await world.clock.until(lambda: world.saved(0) == last, within=5.2)

    async def test_it_starts_when_offsets_can_be_loaded_and_reads_nothing_before(self, world):
        world.offsets.is_down = True
        world.source.add(0, "a")
        async with world.running():
            await world.clock.advance(60)
            assert (world.shard(0).state, world.source.reads) == (ShardState.STARTING, [])
            world.offsets.is_down = False
            await world.clock.until(world.all_confirmed)


class TestStopping:
    async def test_stopping_saves_the_offsets_at_once(self, world):
        last = world.source.add(0, "a", 3)
        async with world.running(save_after=timedelta(hours=1)):
            await world.clock.until(world.all_confirmed)
        assert world.saved(0) == last

    async def test_stopping_waits_for_deliveries_under_way_and_begins_no_others(self, world):
        gate = world.handler.hang("a", 1)
        first = world.source.add(0, "a")
        world.source.add(0, "a", 4)
        async with world.running() as read_side:
            stop = asyncio.ensure_future(read_side.stop())
            await world.clock.advance(1)
            assert not stop.done()
            gate.set()
            await world.clock.settle()
            assert stop.done()
        assert (world.handler.confirmed(), world.saved(0)) == ([1], first)

    async def test_stopping_does_not_wait_for_retries(self, world):
        world.handler.fail("a")
        world.source.add(0, "a")
        async with world.running() as read_side:
            await world.clock.advance(20)
            now = world.clock.monotonic()
            await read_side.stop()
            assert world.clock.monotonic() == now

    async def test_a_delivery_that_hangs_is_cut_short_and_repeated_by_the_next_run(self, world):
        world.handler.hang("a", 2)
        world.source.add(0, "a", 3)
        world.source.add(0, "b", 3)
        async with world.running() as read_side:
            await world.clock.advance(1)
            stop = asyncio.ensure_future(read_side.stop())
            await world.clock.advance(9.9)
            assert not stop.done()
            await world.clock.advance(0.2)
            assert stop.done()
        world.handler.heal()
        async with world.running():
            await world.clock.until(world.all_confirmed)

    async def test_stopping_is_bounded_when_offsets_cannot_be_saved(self, world):
        world.offsets = SlowStore()
        world.source.add(0, "a")
        async with world.running() as read_side:
            await world.clock.advance(1)
            stop = asyncio.ensure_future(read_side.stop())
            await world.clock.until(stop.done, within=20.1)

    async def test_stopping_before_running_or_twice_is_fine(self, world):
        async with world.running() as read_side:
            await asyncio.gather(read_side.stop(), read_side.stop())
            await read_side.stop()
        idle = world.build([])
        await idle.stop()
        await idle.run()

    async def test_a_run_that_is_cancelled_leaves_no_task_behind(self, world):
        world.handler.hang("a")
        world.source.add(0, "a")
        others = asyncio.all_tasks()
        read_side = world.build([0])
        run = asyncio.ensure_future(read_side.run())
        await world.clock.advance(1)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await world.clock.settle()
        assert asyncio.all_tasks() == others
        await read_side.stop()

    async def test_a_fault_of_its_own_ends_the_run_and_is_raised(self, world):
        class CancellingSource(MemoryEventSource):
            async def after(
                self, shard: Shard, offset: Offset, limit: int, known: RowIdentity | None = None
            ) -> Sequence[JournaledEvent]:
                raise asyncio.CancelledError

        world.source = CancellingSource()
        read_side = world.build([0])
        with pytest.raises(RuntimeError, match="cancelled by someone else"):
            await read_side.run()
        await read_side.stop()
        with pytest.raises(RuntimeError, match="runs once"):
            await read_side.run()


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": 11, "look_ahead": 10}, {"concurrency": 0}])
def test_settings_that_would_stand_still_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        ReadSideSettings(READ_SIDE, **wrong)
