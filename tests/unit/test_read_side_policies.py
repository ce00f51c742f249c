"""What becomes of events that are not confirmed: stopped before, skipped, or set aside."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Revision, Shard
from cos_ray.domain.read_sides import DropLetters, Refresh, Replay, RetryLetters, ShardState, Skip
from cos_ray.testing.read_handlers import Outcome
from tests.support.read_side import READ_SIDE, World

FIVE = Backoff(timedelta(seconds=5), timedelta(seconds=5))
A, B = EntityId("a"), EntityId("b")


@pytest.fixture
def world() -> World:
    return World()


def policy(last_resort: LastResort, retries: int = 0) -> DeliveryPolicy:
    return DeliveryPolicy(retries, FIVE, last_resort)


def attempts(world: World, entity_id: str, revision: int) -> int:
    return sum((each.entity_id, each.revision) == (entity_id, revision) for each in world.handler.attempts)


class TestRules:
    def test_without_a_number_of_retries_there_is_no_end_to_them(self):
        policy = DeliveryPolicy()
        waits = [policy.after(failures).total_seconds() for failures in (1, 2, 3, 6, 1000)]
        assert waits == [1, 2, 4, 30, 30]

    @pytest.mark.parametrize("last_resort", LastResort)
    def test_after_its_retries_comes_the_last_resort(self, last_resort):
        policy = DeliveryPolicy(2, FIVE, last_resort)
        assert [policy.after(failures) for failures in (1, 2, 3)] == [timedelta(seconds=5)] * 2 + [
            last_resort
        ]


class TestStop:
    async def test_the_shard_stops_at_the_first_failure_and_others_go_on(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 3)
        world.source.add(1, "b", 3)
        async with world.running(policy=policy(LastResort.STOP)):
            await world.clock.advance(100)
            assert (world.handler.confirmed("a"), attempts(world, "a", 2)) == ([1], 1)
            assert world.handler.confirmed("b") == [1, 2, 3]
            status = world.shard(0)
            assert status.state is ShardState.STOPPED
            assert (status.last_error.entity_id, status.last_error.revision) == ("a", 2)

    async def test_a_stopped_shard_begins_nothing_new(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a")
        async with world.running(policy=policy(LastResort.STOP)) as read_side:
            await world.clock.until(lambda: world.shard(0).state is ShardState.STOPPED)
            world.source.add(0, "later")
            read_side.notify([Shard(0)])
            await world.clock.advance(60)
            assert world.handler.confirmed("later") == []

    async def test_resumed_it_goes_on_with_the_event_that_failed(self, world):
        world.handler.fail("a", 2, times=1)
        world.source.add(0, "a", 4)
        world.source.add(0, "b", 4)
        async with world.running(policy=policy(LastResort.STOP)):
            await world.clock.until(lambda: world.shard(0).state is ShardState.STOPPED)
            await world.order(Refresh(frozenset([Shard(0)])))
            await world.clock.until(world.all_confirmed)
            assert world.shard(0).state is ShardState.RUNNING

    async def test_retries_come_first_where_the_policy_has_them(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a")
        async with world.running(policy=policy(LastResort.STOP, retries=5)):
            await world.clock.advance(24.9)
            assert (attempts(world, "a", 1), world.shard(0).state) == (5, ShardState.RETRYING)
            await world.clock.advance(0.2)
            assert (attempts(world, "a", 1), world.shard(0).state) == (6, ShardState.STOPPED)

    async def test_a_restart_of_the_process_tries_again(self, world):
        world.handler.fail("a", 2, times=1)
        world.source.add(0, "a", 3)
        async with world.running(policy=policy(LastResort.STOP)):
            await world.clock.until(lambda: world.shard(0).state is ShardState.STOPPED)
        async with world.running(policy=policy(LastResort.STOP)):
            await world.clock.until(world.all_confirmed)


class TestSkip:
    @pytest.mark.parametrize("retries", [0, 3])
    async def test_the_event_is_stepped_over_and_the_entity_goes_on(self, world, retries):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 4)
        async with world.running(policy=policy(LastResort.SKIP, retries)):
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 3, 4])
            assert attempts(world, "a", 2) == retries + 1
            await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)
            status = world.shard(0)
            assert (status.state, status.skipped, status.deliveries) == (ShardState.RUNNING, 1, 3)
            assert status.last_error.revision == 2


class TestPark:
    async def test_the_event_and_later_ones_of_its_entity_are_set_aside_and_others_go_on(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 4)
        world.source.add(0, "b", 4)
        async with world.running(policy=policy(LastResort.PARK, retries=1)) as read_side:
            await world.clock.until(lambda: world.shard(0).parked == 3)
            world.source.add(0, "a")
            read_side.notify([Shard(0)])
            await world.clock.until(lambda: world.shard(0).parked == 4)
            assert (world.handler.confirmed("a"), world.handler.confirmed("b")) == ([1], [1, 2, 3, 4])
            assert attempts(world, "a", 2) == 2
            await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)
        letters = await world.letters.letters(READ_SIDE, A, 10)
        assert [letter.envelope.sequence_number for letter in letters] == [2, 3, 4, 5]
        assert [(letter.reason, letter.failures) for letter in letters][:2] == [
            ("planted", 2),
            ("follows an event of its entity that was set aside", 0),
        ]

    async def test_another_life_remembers_which_entities_are_set_aside(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a")
        async with world.running(policy=policy(LastResort.PARK)):
            await world.clock.until(lambda: world.shard(0).parked == 1)
        world.handler.heal()
        world.source.add(0, "a")
        async with world.running(policy=policy(LastResort.PARK)):
            await world.clock.until(lambda: world.shard(0).parked == 1)
        assert len(await world.letters.letters(READ_SIDE, A, 10)) == 2

    async def test_nothing_is_behind_the_offset_that_could_not_be_set_aside(self, world):
        world.handler.fail("a", 1)
        world.letters.is_down = True
        async with world.running(policy=policy(LastResort.PARK)):
            pass
        world.letters.is_down = False
        async with world.running(policy=policy(LastResort.PARK)) as read_side:
            world.letters.is_down = True
            world.source.add(0, "a", 3)
            read_side.notify([Shard(0)])
            await world.clock.advance(30)
            assert (world.shard(0).parked, world.saved(0), world.shard(0).offset) == (0, 0, 0)
            world.letters.is_down = False
            await world.clock.until(lambda: world.shard(0).parked == 3)

    @pytest.mark.parametrize("later", [False, True])
    async def test_nothing_is_behind_the_offset_while_it_is_being_set_aside(self, world, later):
        """Neither the event that failed nor a later one: the process may die at that moment."""
        may_store = asyncio.Event()

        async def held_up(*arguments):
            await may_store.wait()
            await park(*arguments)

        park = world.letters.park
        world.handler.fail("a", 1)
        async with world.running(policy=policy(LastResort.PARK)) as read_side:
            if later:
                world.source.add(0, "a")
                await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)
            before = world.saved(0)
            world.letters.park = held_up
            world.source.add(0, "a", 1 if later else 2)
            world.source.add(0, "b")
            read_side.notify([Shard(0)])
            await world.clock.until(lambda: world.handler.confirmed("b") == [1])
            await world.clock.advance(5)
            assert (world.saved(0), world.shard(0).offset) == (before, before)
            may_store.set()
            await world.clock.until(lambda: world.saved(0) == world.source.events(0)[-1].offset)
        letters = await world.letters.letters(READ_SIDE, A, 10)
        assert [letter.envelope.sequence_number for letter in letters] == [1, 2]

    async def test_retried_they_come_in_order_and_the_entity_is_delivered_again(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 4)
        async with world.running(policy=policy(LastResort.PARK)) as read_side:
            await world.clock.until(lambda: world.shard(0).parked == 3)
            world.handler.heal()
            obeyed = await world.order(RetryLetters({Shard(0): (A,)}, 10))
            assert (obeyed.count, obeyed.failed) == (3, ())
            world.source.add(0, "a", 2)
            read_side.notify([Shard(0)])
            await world.clock.until(world.all_confirmed)
        assert await world.letters.letters(READ_SIDE, None, 10) == []

    async def test_a_retry_ends_at_the_first_that_fails(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 4)
        async with world.running(policy=policy(LastResort.PARK)):
            await world.clock.until(lambda: world.shard(0).parked == 3)
            world.handler.heal()
            world.handler.fail("a", 3)
            obeyed = await world.order(RetryLetters({Shard(0): (A, B)}, 10))
            assert (obeyed.count, obeyed.failed) == (1, ("a: revision 3: planted",))
        letters = await world.letters.letters(READ_SIDE, A, 10)
        assert [letter.envelope.sequence_number for letter in letters] == [3, 4]

    async def test_what_is_stored_during_a_retry_comes_after_it(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running(policy=policy(LastResort.PARK)) as read_side:
            await world.clock.until(lambda: world.shard(0).parked == 2)
            world.handler.heal()
            gate = world.handler.hang("a", 1)
            retrying = asyncio.ensure_future(read_side.obey(RetryLetters({Shard(0): (A,)}, 60)))
            await world.clock.settle()
            world.source.add(0, "a", 3)
            read_side.notify([Shard(0)])
            await world.clock.advance(5)
            gate.set()
            await world.clock.until(retrying.done)
            await world.clock.until(world.all_confirmed)
            assert retrying.result().failed == ()

    async def test_the_poison_dropped_the_rest_can_be_retried(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 4)
        async with world.running(policy=policy(LastResort.PARK)):
            await world.clock.until(lambda: world.shard(0).parked == 3)
            assert (await world.order(DropLetters(Shard(0), A, Revision(2)))).count == 1
            assert (await world.order(RetryLetters({Shard(0): (A,)}, 10))).count == 2
            assert world.handler.confirmed("a") == [1, 3, 4]

    async def test_all_dropped_its_next_events_are_delivered(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running(policy=policy(LastResort.PARK)) as read_side:
            await world.clock.until(lambda: world.shard(0).parked == 2)
            assert (await world.order(DropLetters(Shard(0), A))).count == 2
            world.source.add(0, "a")
            read_side.notify([Shard(0)])
            await world.clock.until(lambda: world.handler.confirmed("a") == [3])

    async def test_a_replay_delivers_them_instead(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 3)
        async with world.running(policy=policy(LastResort.PARK)):
            await world.clock.until(lambda: world.shard(0).parked == 3)
            world.handler.heal()
            world.handler.begin_life()
            await world.order(Replay({Shard(0): 0}))
            await world.clock.until(world.all_confirmed)
        assert await world.letters.letters(READ_SIDE, None, 10) == []

    async def test_an_operator_may_skip_before_the_policy_gives_up(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 2)
        async with world.running(policy=policy(LastResort.PARK, retries=100)):
            await world.clock.until(lambda: world.shard(0).failures == 2)
            assert (await world.order(Skip(frozenset([Shard(0)])))).count == 1
            await world.clock.until(lambda: world.handler.confirmed("a") == [2])
        assert all(each.outcome is not Outcome.UNDER_WAY for each in world.handler.attempts)
