"""A read side whose entities are erased while it has their events in hand, or has set them aside."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cos_ray.domain.erasure import KNOWN_WITHIN, says_nothing
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.read_sides import Refresh, ReplayEntities, RetryLetters, Skip
from cos_ray.readside.known_erasures import KnownErasures
from cos_ray.testing.read_handlers import RecordingBatchHandler
from tests.support.read_side import READ_SIDE, World

A = EntityId("a")
S0 = Shard(0)
FIVE = Backoff(timedelta(seconds=5), timedelta(seconds=5))
PARK = DeliveryPolicy(0, FIVE, LastResort.PARK)


@pytest.fixture
def world() -> World:
    return World()


def told(world: World, since: int = 0) -> list[tuple[int, bool]]:
    """The deliveries of the entity: which revision, and whether it said anything."""
    attempts = [each for each in world.handler.attempts[since:] if each.entity_id == A]
    return [(each.revision, not says_nothing(each.envelope)) for each in attempts]


def end_of(world: World) -> int:
    return world.source.events(0)[-1].offset


async def kept(world: World) -> list[tuple[int, bool]]:
    """The dead letters: which revision, and whether it says anything."""
    letters = await world.letters.letters(READ_SIDE, A, 100)
    return [(each.envelope.sequence_number, not says_nothing(each.envelope)) for each in letters]


class TestTheLastEvent:
    async def test_it_reaches_a_read_side_that_has_set_the_entity_aside(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running(policy=PARK):
            await world.clock.until(lambda: world.shard(0).parked == 2)
            since = len(world.handler.attempts)
            world.erase(0, "a")
            await world.clock.until(lambda: world.saved(0) == end_of(world))
            assert told(world, since) == [(3, False)]
            assert world.handler.confirmed("a") == [3]
            assert await kept(world) == []

    async def test_it_does_so_also_when_it_is_read_before_the_dead_letters_are_removed(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running(policy=PARK) as read_side:
            await world.clock.until(lambda: world.shard(0).parked == 2)
            world.source.bring_to_its_end(0, "a")
            read_side.notify([S0])
            await world.clock.until(lambda: world.handler.confirmed("a") == [3])
            assert await kept(world) == []

    async def test_it_does_so_in_another_life_than_that_which_set_the_entity_aside(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running(policy=PARK):
            await world.clock.until(lambda: world.shard(0).parked == 2)
        world.erase(0, "a")
        async with world.running(policy=PARK):
            await world.clock.until(lambda: world.handler.confirmed("a") == [3])

    async def test_it_is_set_aside_when_it_fails_itself_and_stays_when_all_is_removed_again(self, world):
        world.handler.fail("a")
        world.source.add(0, "a", 2)
        async with world.running(policy=PARK):
            await world.clock.until(lambda: world.shard(0).parked == 2)
            world.erase(0, "a")
            await world.clock.until(lambda: world.shard(0).parked == 3)
            world.letters.finish_erasure(A)
            assert await kept(world) == [(3, False)]
            world.handler.heal()
            assert (await world.order(RetryLetters({S0: (A,)}, 10))).count == 1
            assert world.handler.confirmed("a") == [3]

    async def test_of_a_history_that_says_nothing_one_event_is_tried_and_the_others_follow(self, world):
        """A handler that can do nothing with erasures holds its shard up for one event, not for each."""
        world.handler.fail("a")
        world.source.add(0, "a", 50)
        world.source.bring_to_its_end(0, "a")
        world.source.redact(0, "a")
        world.source.add(0, "b", 3)
        async with world.running(policy=DeliveryPolicy(5, FIVE, LastResort.PARK)):
            await world.clock.until(lambda: world.shard(0).parked == 51)
            assert len(told(world)) == 6
            await world.clock.until(lambda: world.saved(0) == end_of(world))
        assert len(await kept(world)) == 51

    async def test_it_waits_for_a_dead_letter_that_is_being_delivered(self, world):
        world.handler.fail("a", 1, times=1)
        world.source.add(0, "a", 2)
        async with world.running(policy=PARK) as read_side:
            await world.clock.until(lambda: world.shard(0).parked == 2)
            gate = world.handler.hang("a", 1)
            retrying = asyncio.ensure_future(read_side.obey(RetryLetters({S0: (A,)}, 60)))
            await world.clock.until(lambda: world.handler.under_way)
            since = len(world.handler.attempts)
            world.erase(0, "a")
            await world.clock.advance(5)
            assert told(world, since) == []
            gate.set()
            await world.clock.until(retrying.done)
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 3])
            assert told(world, since) == [(3, False)]

    async def test_it_comes_after_all_that_was_not_delivered_yet(self, world):
        gate = world.handler.hang("a", 1)
        world.source.add(0, "a", 3)
        async with world.running(policy=PARK):
            await world.clock.until(lambda: world.handler.under_way)
            world.erase(0, "a")
            await world.clock.advance(1)
            gate.set()
            await world.clock.until(world.all_confirmed)
            assert told(world) == [(1, True), (2, False), (3, False), (4, False)]


class TestWhatWaitsInMemory:
    async def test_a_retry_is_of_what_the_event_says_now(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures == 1)
            world.erase(0, "a")
            since = len(world.handler.attempts)
            await world.clock.until(lambda: len(told(world, since)) == 3)
            assert told(world, since) == [(1, False)] * 3
            world.handler.heal()
            await world.clock.until(world.all_confirmed)

    async def test_the_event_is_tried_as_often_as_if_it_came_for_the_first_time(self, world):
        world.handler.fail("a")
        world.source.add(0, "a", 2)
        async with world.running(policy=DeliveryPolicy(2, FIVE, LastResort.PARK)):
            await world.clock.until(lambda: world.shard(0).failures == 2)
            world.erase(0, "a")
            await world.clock.until(lambda: world.shard(0).parked == 3)
            assert told(world) == [(1, True)] * 2 + [(1, False)] * 3
            assert await kept(world) == [(1, False), (2, False), (3, False)]

    async def test_when_the_try_under_way_fails_its_event_is_tried_anew_and_not_set_aside(self, world):
        async def fail_after(attempt):
            if attempt.revision == 1 and not says_nothing(attempt.envelope):
                await gate.wait()
                raise RuntimeError("that was Ada's")

        gate = asyncio.Event()
        world.handler._before = fail_after
        world.source.add(0, "a", 2)
        async with world.running(policy=PARK):
            await world.clock.until(lambda: world.handler.under_way)
            # Its process has not heard of the last event: only the dead letters can tell.
            world.source.is_down = True
            world.erase(0, "a", notified=False)
            await world.clock.settle()
            gate.set()
            await world.clock.until(lambda: (1, False) in told(world) or world.shard(0).parked)
            world.source.is_down = False
            await world.clock.until(world.all_confirmed)
            assert told(world) == [(1, True), (1, False), (2, False), (3, False)]
            assert world.shard(0).parked == 0

    async def test_a_try_under_way_that_fails_counts_for_nothing(self, world):
        async def fail_after(attempt):
            if says_nothing(attempt.envelope):
                return
            await gate.wait()
            raise RuntimeError("that was Ada's")

        gate = asyncio.Event()
        world.handler._before = fail_after
        world.source.add(0, "a", 2)
        async with world.running(policy=PARK):
            await world.clock.until(lambda: world.handler.under_way)
            world.erase(0, "a")
            await world.clock.advance(1)
            gate.set()
            await world.clock.until(world.all_confirmed)
            assert told(world) == [(1, True), (1, False), (2, False), (3, False)]
            assert world.shard(0).parked == 0

    async def test_read_together_with_the_last_event_it_says_nothing_from_the_first_try_on(self, world):
        world.source.add(0, "a", 2)
        world.source.bring_to_its_end(0, "a")
        async with world.running():
            await world.clock.until(world.all_confirmed)
            assert told(world) == [(1, False), (2, False), (3, False)]

    async def test_a_later_event_that_was_read_before_is_not_set_aside_with_what_it_said(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a")
        async with world.running(policy=PARK) as read_side:
            await world.clock.until(lambda: world.shard(0).parked == 1)
            world.letters.is_down = True
            world.source.add(0, "a")
            read_side.notify([S0])
            await world.clock.until(lambda: world.shard(0).failures == 2)
            # Its process has not heard of the last event: only the dead letters can tell.
            world.source.is_down = True
            world.erase(0, "a", notified=False)
            world.letters.is_down = False
            await world.clock.until(lambda: len(told(world)) > 1 or world.shard(0).parked > 1)
            world.source.is_down = False
            await world.clock.until(lambda: world.saved(0) == end_of(world))
            assert told(world) == [(1, True), (2, False), (3, False)]
            assert await kept(world) == []

    async def test_after_a_pause_what_was_read_before_says_nothing_any_more(self, world):
        """And when nothing can be read: the window is full."""
        gate = world.handler.hang("b")
        world.source.add(0, "b")
        world.source.add(0, "a", 9)
        async with world.running(batch=5, look_ahead=10, concurrency=1):
            await world.clock.until(lambda: world.handler.under_way)
            await world.offsets.pause(READ_SIDE, [S0], True)
            await world.order(Refresh())
            world.erase(0, "a")
            gate.set()
            await world.clock.advance(60)
            assert told(world) == []
            await world.offsets.pause(READ_SIDE, [S0], False)
            await world.order(Refresh(frozenset([S0])))
            await world.clock.until(world.all_confirmed)
            assert {said for _, said in told(world)} == {False}

    @pytest.mark.parametrize("batch", [None, 7])
    async def test_in_a_full_window_nothing_it_said_is_handed_out_later_than_an_erasure_is_reported(
        self, world, batch
    ):
        async def slow(_attempt):
            await world.clock.sleep(0.3)

        world.handler = RecordingBatchHandler(batch, slow) if batch else world.handler
        world.handler._before = slow
        world.source.add(0, "b", 20)
        world.source.add(0, "a", 20)
        world.source.add(0, "c", 100)
        async with world.running(batch=1, look_ahead=40, concurrency=1):
            await world.clock.advance(1.0)
            world.erase(0, "a")
            await world.clock.advance(KNOWN_WITHIN.total_seconds() + 0.1)
            since = len(world.handler.attempts)
            if batch:
                # It writes a call down at its end.
                await world.clock.until(lambda: len(world.handler.attempts) > since)
                since = len(world.handler.attempts)
            world.handler._before = None
            await world.clock.until(world.all_confirmed)
            assert len(told(world, since)) >= 10
            assert {said for _, said in told(world, since)} == {False}

    async def test_while_nobody_can_tell_what_waits_for_long_is_not_handed_out(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a")
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures == 1)
            world.source.is_down = True
            await world.clock.advance(60)
            attempts = len(world.handler.attempts)
            assert attempts <= 3
            world.source.is_down = False
            await world.clock.until(lambda: len(world.handler.attempts) > attempts)

    async def test_replayed_it_is_handed_out_as_it_is_now(self, world):
        world.source.add(0, "b", 30)
        world.source.add(0, "a", 3)
        async with world.running():
            await world.clock.until(world.all_confirmed)
            gate = world.handler.hang("a", 1)
            await world.order(ReplayEntities({S0: (A,)}))
            await world.clock.until(lambda: world.handler.under_way)
            since = len(world.handler.attempts)
            world.erase(0, "a")
            await world.clock.advance(1)
            gate.set()
            await world.clock.until(lambda: (4, False) in told(world, since))
            assert told(world, since) == [(2, False), (3, False), (4, False)]

    async def test_replayed_from_a_long_history_it_is_known_as_of_when_that_was_begun_to_be_read(self, world):
        async def long(*arguments):
            found = await read(*arguments)
            await world.clock.sleep(15)
            return found

        read, world.source.events_of = world.source.events_of, long
        world.source.add(0, "a", 3)
        async with world.running() as read_side:
            await world.clock.until(world.all_confirmed)
            ordering = asyncio.ensure_future(read_side.obey(ReplayEntities({S0: (A,)})))
            await world.clock.advance(9)
            gate = world.handler.hang("b")
            # Something else waits in the shard, of which all is known.
            world.source.add(0, "b")
            read_side.notify([S0])
            await world.clock.until(lambda: world.handler.under_way)
            world.source.is_down = True
            world.erase(0, "a", notified=False)
            world.source.is_down = False
            since = len(world.handler.attempts)
            await world.clock.until(ordering.done)
            await world.clock.until(lambda: len(told(world, since)) >= 3)
            gate.set()
            assert {said for _, said in told(world, since)} == {False}

    async def test_an_operator_may_skip_what_fails_also_when_it_says_nothing(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures == 1)
            world.erase(0, "a")
            await world.clock.until(lambda: (1, False) in told(world))
            await world.clock.settle()
            assert (await world.order(Skip(frozenset([S0])))).count == 1
            await world.clock.until(lambda: world.handler.confirmed("a") == [2, 3])


class TestDeadLetters:
    async def test_each_is_read_just_before_it_is_delivered_again(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 4)
        async with world.running(policy=PARK) as read_side:
            await world.clock.until(lambda: world.shard(0).parked == 4)
            world.handler.heal()
            gate = world.handler.hang("a", 1)
            since = len(world.handler.attempts)
            retrying = asyncio.ensure_future(read_side.obey(RetryLetters({S0: (A,)}, 60)))
            await world.clock.until(lambda: world.handler.under_way)
            world.erase(0, "a", notified=False)
            gate.set()
            await world.clock.until(retrying.done)
            read_side.notify([S0])
            await world.clock.until(lambda: world.saved(0) == end_of(world))
            assert told(world, since) == [(1, True), (5, False)]


class TestWhatIsKnown:
    """As of when, in seconds."""

    def test_of_what_is_read_into_an_empty_window_it_is_known_as_of_when_the_read_began(self):
        known = KnownErasures()
        known.read(3, was_empty=True)
        assert known.time == 3

    def test_what_is_added_makes_nothing_known_of_what_waited_before(self):
        known = KnownErasures()
        known.read(3, was_empty=True)
        known.read(7, was_empty=False)
        assert known.time == 3

    def test_an_answer_is_as_old_as_its_question(self):
        known = KnownErasures()
        known.read(3, was_empty=True)
        known.begin_question()
        known.answered(8)
        assert known.time == 8

    def test_an_answer_says_nothing_of_what_a_read_brought_that_had_begun_before(self):
        known = KnownErasures()
        known.begin_question()
        known.read(6, was_empty=False)
        known.read(9, was_empty=False)
        known.answered(8)
        assert known.time == 6
