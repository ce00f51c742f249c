"""An operator's orders: pause, resume, skip, replay, and waiting for an event to be handled."""

from __future__ import annotations

import asyncio

import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.failure_policy import DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Offset, Revision, Shard
from cos_ray.domain.read_sides import Refresh, Replay, ReplayEntities, Report, ShardState, Skip
from tests.support.read_side import READ_SIDE, World

A = EntityId("a")
S0, S1 = Shard(0), Shard(1)
BOTH = frozenset([S0, S1])


@pytest.fixture
def world() -> World:
    return World()


async def pause(world: World, *shards: Shard) -> None:
    await world.offsets.pause(READ_SIDE, shards, True)
    await world.order(Refresh())


async def resume(world: World, *shards: Shard) -> None:
    await world.offsets.pause(READ_SIDE, shards, False)
    await world.order(Refresh(frozenset(shards)))


class TestPause:
    async def test_a_paused_shard_neither_reads_nor_delivers_and_others_do(self, world):
        async with world.running() as read_side:
            await pause(world, S0)
            world.source.add(0, "a", 3)
            world.source.add(1, "b", 3)
            reads = len([shard for shard, _ in world.source.reads if shard == 0])
            read_side.notify([S0, S1])
            await world.clock.advance(60)
            assert (world.handler.confirmed("a"), world.handler.confirmed("b")) == ([], [1, 2, 3])
            assert len([shard for shard, _ in world.source.reads if shard == 0]) == reads
            assert (world.shard(0).state, world.shard(1).state) == (ShardState.PAUSED, ShardState.RUNNING)
            await resume(world, S0)
            await world.clock.until(world.all_confirmed)

    async def test_what_is_under_way_ends_and_nothing_follows(self, world):
        gate = world.handler.hang("a", 1)
        world.source.add(0, "a", 3)
        async with world.running():
            await pause(world, S0)
            gate.set()
            await world.clock.advance(60)
            assert world.handler.confirmed("a") == [1]
            await resume(world, S0)
            await world.clock.until(world.all_confirmed)

    async def test_paused_during_a_retry_it_retries_when_resumed(self, world):
        world.handler.fail("a", 1, times=3)
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures == 2)
            await pause(world, S0)
            await world.clock.advance(100)
            assert len(world.handler.attempts) == 2
            await resume(world, S0)
            await world.clock.until(world.all_confirmed)

    async def test_it_survives_a_restart(self, world):
        async with world.running():
            await pause(world, S0)
        world.source.add(0, "a")
        async with world.running():
            await world.clock.advance(60)
            assert world.shard(0).state is ShardState.PAUSED
            assert world.handler.attempts == []

    async def test_one_that_did_not_hear_of_it_learns_it_within_seconds(self, world):
        async with world.running():
            await world.offsets.pause(READ_SIDE, [S0], True)
            await world.clock.advance(5.1)
            assert world.shard(0).state is ShardState.PAUSED

    async def test_resuming_what_is_not_paused_changes_nothing(self, world):
        world.source.add(0, "a", 3)
        async with world.running():
            await resume(world, S0, S1)
            await world.clock.until(world.all_confirmed)
        assert len(world.handler.attempts) == 3

    async def test_auto_start_counts_only_the_first_time(self, world):
        world.source.add(0, "a")
        async with world.running(auto_start=False):
            await world.clock.advance(10)
            assert world.shard(0).state is ShardState.PAUSED
            await resume(world, S0)
            await world.clock.until(world.all_confirmed)
        world.source.add(0, "a")
        async with world.running(auto_start=False):
            await world.clock.until(world.all_confirmed)
            assert world.shard(1).state is ShardState.PAUSED

    async def test_a_read_side_with_offsets_was_seen_before(self, world):
        world.offsets.offsets[READ_SIDE][S0] = Offset(0)
        world.source.add(0, "a")
        async with world.running(auto_start=False):
            await world.clock.until(world.all_confirmed)

    async def test_an_order_that_cannot_be_learnt_is_an_error(self, world):
        async with world.running():
            world.offsets.reachable = False
            with pytest.raises(JournalUnavailable):
                await world.order(Refresh())
            world.offsets.reachable = True


class TestSkip:
    async def test_of_each_stuck_shard_exactly_the_next_event_is_stepped_over(self, world):
        for shard, entity in ((0, "a"), (1, "b")):
            world.handler.fail(entity, 2)
            world.handler.fail(entity, 3)
            world.source.add(shard, entity, 4)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures and world.shard(1).failures)
            assert (await world.order(Skip(BOTH))).count == 2
            await world.clock.advance(30)
            assert world.handler.confirmed("a") == [1]
            assert world.handler.attempts[-1].revision == 3
            assert (await world.order(Skip(frozenset([S0])))).count == 1
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 4])
            assert world.handler.confirmed("b") == [1]
            await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)

    async def test_of_several_stuck_entities_the_first_in_the_journal_is_skipped(self, world):
        world.handler.fail()
        world.source.add(0, "a")
        world.source.add(0, "b")
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures >= 2)
            await world.order(Skip(BOTH))
            world.handler.heal()
            await world.clock.until(lambda: world.handler.confirmed("b") == [1])
            await world.clock.advance(60)
            assert world.handler.confirmed("a") == []

    async def test_on_a_healthy_shard_nothing_is_skipped(self, world):
        gate = world.handler.hang("a", 1)
        world.source.add(0, "a", 3)
        async with world.running():
            assert (await world.order(Skip(BOTH))).count == 0
            gate.set()
            await world.clock.until(world.all_confirmed)
            assert (await world.order(Skip(BOTH))).count == 0

    async def test_a_retry_under_way_is_cut_short(self, world):
        world.handler.fail("a", 1, times=1)
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures == 1)
            world.handler.hang("a", 1)
            await world.clock.advance(2)
            assert world.handler.under_way == 1
            assert (await world.order(Skip(BOTH))).count == 1
            await world.clock.until(lambda: world.handler.confirmed("a") == [2])
            assert world.handler.under_way == 0

    async def test_a_shard_that_stopped_goes_on_with_the_next_event(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running(policy=DeliveryPolicy(0, last_resort=LastResort.STOP)):
            await world.clock.until(lambda: world.shard(0).state is ShardState.STOPPED)
            await world.order(Skip(BOTH))
            await world.clock.until(lambda: world.handler.confirmed("a") == [2])
            assert world.shard(0).state is ShardState.RUNNING

    async def test_of_an_entity_that_is_replayed_exactly_the_event_that_is_stuck_is_stepped_over(self, world):
        world.handler.fail("a", 3)
        world.source.add(0, "a", 4)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures)
            gate = world.handler.hang("a", 2)
            assert (await world.order(ReplayEntities({S0: (A,)}))).count == 2
            await world.clock.settle()
            # Its earlier events are on their way, and none of them is stuck.
            offset = world.shard(0).offset
            assert (await world.order(Skip(BOTH))).count == 0
            assert world.shard(0).offset == offset
            gate.set()
            world.handler.heal()
            world.handler.fail("a", 3)
            failures = world.shard(0).failures
            await world.clock.until(lambda: world.shard(0).failures > failures)
            assert (await world.order(Skip(BOTH))).count == 1
            await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)
            assert world.handler.confirmed("a") == [1, 2, 1, 2, 4]

    async def test_an_event_that_is_stuck_when_it_is_replayed_is_stepped_over_once(self, world):
        world.source.add(0, "a", 3)
        async with world.running():
            await world.clock.until(world.all_confirmed)
            world.handler.fail("a", 2)
            await world.order(ReplayEntities({S0: (A,)}))
            await world.clock.until(lambda: world.shard(0).failures)
            offset = world.shard(0).offset
            assert (await world.order(Skip(BOTH))).count == 1
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 3, 1, 3])
            assert world.shard(0).offset == offset
            assert (await world.order(Skip(BOTH))).count == 0

    async def test_an_event_that_cannot_be_read_holds_the_shard_until_it_is_skipped(self, world):
        world.source.add(0, "a", 2)
        world.source.unreadable.add(world.source.add(0, "a"))
        world.source.add(0, "a")
        async with world.running():
            await world.clock.advance(60)
            assert world.handler.confirmed("a") == [1, 2]
            assert world.shard(0).last_error.reason == "planted: cannot be read"
            assert (await world.order(Skip(BOTH))).count == 1
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 4])
            await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)

    async def test_behind_a_gap_it_goes_on_only_when_an_operator_says_so(self, world):
        world.source.add(0, "a", 2)
        world.source.hide(world.source.add(0, "a"))
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).state is ShardState.STALLED)
            await world.clock.advance(60)
            assert world.handler.confirmed("a") == [1, 2]
            assert (await world.order(Skip(BOTH))).count == 1
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 4, 5])


class TestReplay:
    async def test_a_restart_delivers_everything_again_from_the_beginning(self, world):
        world.source.add(0, "a", 3)
        async with world.running():
            await world.clock.until(world.all_confirmed)
            assert (await world.order(Replay({S0: Offset(0)}))).count == 1
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 3, 1, 2, 3])

    async def test_from_an_offset_only_what_follows_comes_again(self, world):
        world.source.add(0, "a", 4)
        second = world.source.events(0)[1].offset
        async with world.running():
            await world.clock.until(world.all_confirmed)
            await world.order(Replay({S0: second}))
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 3, 4, 3, 4])

    async def test_never_forwards(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 4)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures)
            assert (await world.order(Replay({S0: world.source.events(0)[-1].offset}))).count == 0
            world.handler.heal()
            await world.clock.until(world.all_confirmed)

    async def test_during_a_catch_up_nothing_overlaps(self, world):
        async def slow(_attempt):
            await world.clock.sleep(0.1)

        world.handler._before = slow
        for entity in range(10):
            world.source.add(entity % 2, f"e{entity}", 20)
        async with world.running(batch=5, look_ahead=20):
            await world.clock.advance(0.55)
            confirmed = len(world.handler.confirmed())
            assert 0 < confirmed < 200
            ordering = asyncio.ensure_future(world.read_side.obey(Replay({S0: Offset(0), S1: Offset(0)})))
            await world.clock.until(ordering.done)
            assert ordering.result().count == 2
            assert len(world.handler.confirmed()) < 200
            await world.clock.until(world.all_confirmed)

    async def test_a_delivery_that_hangs_does_not_hold_it_up_for_long(self, world):
        world.handler.hang("a", 2)
        world.source.add(0, "a", 3)
        async with world.running():
            await world.clock.advance(1)
            world.handler.heal()
            ordering = asyncio.ensure_future(world.read_side.obey(Replay({S0: Offset(0)})))
            await world.clock.advance(2.1)
            assert ordering.done()
            await world.clock.until(world.all_confirmed)

    async def test_paused_it_stays_paused_and_begins_anew_when_resumed(self, world):
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(world.all_confirmed)
            await pause(world, S0)
            await world.order(Replay({S0: Offset(0)}))
            await world.clock.advance(10)
            assert (world.shard(0).state, world.saved(0)) == (ShardState.PAUSED, 0)
            assert len(world.handler.attempts) == 2
            await resume(world, S0)
            await world.clock.until(lambda: len(world.handler.attempts) == 4)

    async def test_when_the_offset_cannot_be_stored_it_goes_on_where_it_was(self, world):
        world.source.add(0, "a", 3)
        async with world.running():
            await world.clock.until(lambda: world.saved(0))
            world.offsets.is_down = True
            with pytest.raises(JournalUnavailable):
                await world.order(Replay({S0: Offset(0)}))
            world.offsets.is_down = False
            world.source.add(0, "a", 2)
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 3, 4, 5])

    async def test_an_offset_that_was_about_to_be_saved_does_not_come_after_it(self, world):
        may_save = asyncio.Event()
        may_save.set()

        async def held_up(*arguments):
            await may_save.wait()
            return await save(*arguments)

        save, world.offsets.save = world.offsets.save, held_up
        world.source.add(0, "a", 3)
        async with world.running() as read_side:
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 3])
            assert not world.offsets.saves
            may_save.clear()
            world.handler.hang("a", 1)
            ordering = asyncio.ensure_future(read_side.obey(Replay({S0: Offset(0)})))
            # The save that is due meanwhile waits for the one of the order.
            await world.clock.advance(1)
            assert not world.offsets.saves
            may_save.set()
            await world.clock.until(ordering.done)
            await world.clock.advance(1)
            assert world.handler.under_way == 1
            assert [saved[S0] for saved in world.offsets.saves] == [0]
            assert world.saved(0) == 0
            world.handler.heal()

    async def test_a_stored_offset_that_is_no_number_stops_the_shard_until_it_is_replayed(self, world):
        world.offsets.offsets[READ_SIDE][S0] = None
        world.source.add(0, "a", 2)
        world.source.add(1, "b", 2)
        async with world.running():
            await world.clock.until(lambda: world.handler.confirmed("b") == [1, 2])
            assert world.shard(0).state is ShardState.STOPPED
            assert "is no number" in world.shard(0).last_error.reason
            await resume(world, S0)
            assert world.shard(0).state is ShardState.STOPPED
            await world.order(Replay({S0: Offset(0)}))
            await world.clock.until(world.all_confirmed)


class TestReplayOfEntities:
    async def test_its_events_come_again_in_order_and_nobody_elses(self, world):
        world.source.add(0, "a", 3)
        world.source.add(0, "b", 3)
        async with world.running() as read_side:
            await world.clock.until(world.all_confirmed)
            obeyed = await world.order(ReplayEntities({S0: (A,)}))
            assert obeyed.count == 3
            world.source.add(0, "a", 2)
            read_side.notify([S0])
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 3, 1, 2, 3, 4, 5])
            assert world.handler.confirmed("b") == [1, 2, 3]
            await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)

    async def test_what_waits_for_delivery_comes_after_it(self, world):
        world.handler.fail("a", 3)
        world.source.add(0, "a", 5)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures)
            assert (await world.order(ReplayEntities({S0: (A,)}))).count == 2
            world.handler.heal()
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 1, 2, 3, 4, 5])

    async def test_a_delivery_under_way_ends_first(self, world):
        gate = world.handler.hang("a", 2)
        world.source.add(0, "a", 3)
        async with world.running() as read_side:
            await world.clock.advance(1)
            ordering = asyncio.ensure_future(read_side.obey(ReplayEntities({S0: (A,)})))
            await world.clock.advance(1)
            gate.set()
            await world.clock.until(ordering.done)
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2, 1, 2, 3])

    async def test_an_entity_without_events_is_no_fault(self, world):
        async with world.running():
            assert (await world.order(ReplayEntities({S0: (EntityId("nobody"),)}))).count == 0


class TestHandled:
    async def test_it_waits_for_the_event_to_be_confirmed(self, world):
        gate = world.handler.hang("a", 2)
        world.source.add(0, "a", 2)
        async with world.running() as read_side:
            await world.clock.advance(1)
            assert await read_side.handled(S0, A, Revision(1), 5) is True
            waiting = asyncio.ensure_future(read_side.handled(S0, A, Revision(2), 5))
            await world.clock.advance(4)
            assert not waiting.done()
            gate.set()
            await world.clock.settle()
            assert waiting.result() is True

    async def test_what_is_not_read_yet_is_read_at_once(self, world):
        async with world.running() as read_side:
            await world.clock.advance(20)
            world.source.add(0, "a")
            waiting = asyncio.ensure_future(read_side.handled(S0, A, Revision(1), 5))
            await world.clock.settle()
            assert waiting.result() is True

    async def test_it_gives_up_in_time(self, world):
        world.handler.fail("a")
        world.source.add(0, "a")
        async with world.running() as read_side:
            waiting = asyncio.ensure_future(read_side.handled(S0, A, Revision(1), 3))
            await world.clock.advance(3.1)
            assert waiting.result() is False

    async def test_what_was_handled_in_an_earlier_life_is_handled(self, world):
        world.source.add(0, "a", 3)
        async with world.running():
            await world.clock.until(world.all_confirmed)
        async with world.running() as read_side:
            assert await read_side.handled(S0, A, Revision(2), 1) is True

    @pytest.mark.parametrize("last_resort", [LastResort.SKIP, LastResort.PARK])
    async def test_what_is_skipped_or_set_aside_is_not_handled(self, world, last_resort):
        world.handler.fail("a")
        async with world.running(policy=DeliveryPolicy(0, last_resort=last_resort)) as read_side:
            world.source.add(0, "a")
            waiting = asyncio.ensure_future(read_side.handled(S0, A, Revision(1), 30))
            await world.clock.advance(1)
            assert waiting.result() is False

    async def test_an_event_that_is_not_there_is_not_handled_and_a_strangers_shard_is_not_ours(self, world):
        async with world.running() as read_side:
            assert await read_side.handled(S0, A, Revision(1), 1) is False
            assert await read_side.handled(Shard(9), A, Revision(1), 1) is None


async def test_a_report_has_a_line_for_each_shard(world):
    async with world.running():
        assert [status.shard for status in (await world.order(Report())).shards] == [0, 1]
