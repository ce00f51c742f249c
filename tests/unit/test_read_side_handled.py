"""What counts as handled, for those who wait for it: what the handler confirmed, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.failure_policy import DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Offset, Revision, Shard
from cos_ray.domain.read_sides import DropLetters, Replay, ReplayEntities, RetryLetters, ShardState, Skip
from cos_ray.testing.read_handlers import RecordingBatchHandler
from tests.support.read_side import READ_SIDE, World

A = EntityId("a")
S0 = Shard(0)
SKIPS = DeliveryPolicy(0, last_resort=LastResort.SKIP)
PARKS = DeliveryPolicy(0, last_resort=LastResort.PARK)


@pytest.fixture
def world() -> World:
    return World()


async def is_handled(world: World, revision: int, entity_id: str = "a") -> bool | None:
    asking = asyncio.ensure_future(world.read_side.handled(S0, EntityId(entity_id), Revision(revision), 1))
    await world.clock.until(asking.done)
    return asking.result()


def is_behind(world: World) -> bool:
    return world.saved(0) == world.source.events(0)[-1].offset


async def none_of(world: World, last: int) -> bool:
    return not any([await is_handled(world, revision) for revision in range(1, last + 1)])


class TestBeforeItIsAsked:
    @pytest.mark.parametrize("policy", [SKIPS, PARKS])
    async def test_what_the_policy_left_out_is_not_handled_and_what_was_confirmed_is(self, world, policy):
        world.handler.fail("a", 2)
        world.source.add(0, "b", 2)
        world.source.add(0, "a", 2)
        async with world.running(policy=policy):
            await world.clock.until(lambda: is_behind(world))
            assert await is_handled(world, 1) is True
            assert await is_handled(world, 2) is False
            assert await is_handled(world, 2, "b") is True
        # What is known only from the journal.
        async with world.running(policy=policy):
            assert await is_handled(world, 1) is True
            assert await is_handled(world, 2) is False
            assert await is_handled(world, 2, "b") is True

    async def test_what_only_follows_an_event_that_was_set_aside_is_not_handled(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 3)
        async with world.running(policy=PARKS):
            await world.clock.until(lambda: is_behind(world))
            assert await none_of(world, 3)
        async with world.running(policy=PARKS):
            assert await none_of(world, 3)

    async def test_what_an_operator_skipped_is_not_handled(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures)
            assert (await world.order(Skip(frozenset([S0])))).count == 1
            await world.clock.until(lambda: is_behind(world))
            assert await is_handled(world, 2) is False
        async with world.running():
            assert await is_handled(world, 2) is False

    async def test_of_more_entities_than_are_remembered_none_is_taken_for_handled(self, world):
        for entity in ("a", "b", "c", "d"):
            world.handler.fail(entity, 1)
            world.source.add(0, entity, 2)
        async with world.running(policy=SKIPS, entities_remembered=2):
            await world.clock.until(lambda: is_behind(world))
            for entity in ("a", "b", "c", "d"):
                assert await is_handled(world, 1, entity) is False
                assert await is_handled(world, 2, entity) is True

    async def test_of_what_this_process_has_confirmed_the_dead_letters_are_not_asked(self, world):
        world.source.add(0, "a", 2)
        async with world.running():
            await world.clock.until(lambda: is_behind(world))
            world.letters.is_down = True
            assert await is_handled(world, 2) is True
            world.letters.is_down = False


class TestAfterwards:
    async def test_a_dead_letter_that_is_delivered_is_handled_and_one_that_is_dropped_is_not(self, world):
        world.handler.fail("a", 1)
        world.source.add(0, "a", 3)
        async with world.running(policy=PARKS):
            await world.clock.until(lambda: is_behind(world))
            assert (await world.order(DropLetters(S0, A, Revision(1)))).count == 1
            assert (await world.order(RetryLetters({S0: (A,)}, 10))).count == 2
            assert [await is_handled(world, revision) for revision in (1, 2, 3)] == [False, True, True]
        async with world.running(policy=PARKS):
            assert [await is_handled(world, revision) for revision in (1, 2, 3)] == [False, True, True]

    @pytest.mark.parametrize("policy", [SKIPS, PARKS])
    async def test_what_is_replayed_is_handled_when_it_is_confirmed(self, world, policy):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 3)
        async with world.running(policy=policy):
            await world.clock.until(lambda: is_behind(world))
            assert await is_handled(world, 2) is False
            world.handler.heal()
            world.handler.begin_life()
            await world.order(Replay({S0: Offset(0)}))
            assert await is_handled(world, 2) is True
            assert world.letters.skipped[READ_SIDE] == {}

    @pytest.mark.parametrize("batch", [None, 10])
    async def test_so_is_one_of_an_entity_that_is_replayed(self, world, batch):
        if batch:
            world.handler = RecordingBatchHandler(batch)
        world.handler.fail("a", 2)
        world.source.add(0, "a", 3)
        async with world.running(policy=SKIPS):
            await world.clock.until(lambda: is_behind(world))
        async with world.running(policy=SKIPS):
            await world.clock.until(lambda: world.shard(0).state is ShardState.RUNNING)
            world.handler.heal()
            gate = world.handler.hang("a", 2)
            await world.order(ReplayEntities({S0: (A,)}))
            await world.clock.settle()
            assert await is_handled(world, 2) is False
            gate.set()
            await world.clock.until(lambda: world.handler.confirmed("a")[-2:] == [2, 3])
            assert await is_handled(world, 2) is True
        async with world.running(policy=SKIPS):
            assert await is_handled(world, 2) is True

    async def test_skipped_again_in_a_replay_it_is_not(self, world):
        world.handler.fail("a", 2)
        world.source.add(0, "a", 3)
        async with world.running(policy=SKIPS):
            await world.clock.until(lambda: is_behind(world))
            await world.order(ReplayEntities({S0: (A,)}))
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 3, 1, 3])
            assert await is_handled(world, 2) is False


class TestPuttingItDown:
    async def test_nothing_is_skipped_by_the_policy_before_that_is_stored(self, world):
        world.handler.fail("a", 1)
        async with world.running(policy=SKIPS) as read_side:
            world.letters.is_down = True
            world.source.add(0, "a", 2)
            read_side.notify([S0])
            await world.clock.advance(30)
            assert (world.shard(0).skipped, world.shard(0).offset) == (0, 0)
            assert "cannot be skipped" in world.shard(0).last_error.reason
            world.letters.is_down = False
            await world.clock.until(lambda: world.handler.confirmed("a") == [2])
            assert world.shard(0).skipped == 1

    async def test_an_order_to_skip_that_cannot_be_stored_is_an_error_and_the_event_is_tried_again(
        self, world
    ):
        world.handler.fail("a", 1)
        world.source.add(0, "a")
        async with world.running():
            await world.clock.until(lambda: world.shard(0).failures)
            world.letters.is_down = True
            with pytest.raises(JournalUnavailable):
                await world.order(Skip(frozenset([S0])))
            assert world.shard(0).skipped == 0
            world.letters.is_down = False
            world.handler.heal()
            await world.clock.until(lambda: world.handler.confirmed("a") == [1])
            assert await is_handled(world, 1) is True

    async def test_an_event_that_is_delivered_again_as_its_offset_was_not_saved_is_handled(self, world):
        """The process died between the two."""
        world.handler.fail("a", 1)
        world.source.add(0, "a")
        async with world.running(policy=SKIPS):
            await world.clock.until(lambda: is_behind(world))
        world.offsets.offsets[READ_SIDE][S0] = Offset(0)
        world.handler.heal()
        async with world.running(policy=SKIPS):
            await world.clock.until(lambda: world.handler.confirmed("a") == [1])
            assert await is_handled(world, 1) is True
        async with world.running(policy=SKIPS):
            assert await is_handled(world, 1) is True

    async def test_an_order_to_skip_that_is_overtaken_by_a_replay_skips_nothing(self, world):
        may_store = asyncio.Event()

        async def held_up(*arguments):
            await may_store.wait()
            await skip(*arguments)

        skip, world.letters.skip = world.letters.skip, held_up
        world.handler.fail("a", 1, times=1)
        world.source.add(0, "a", 2)
        async with world.running() as read_side:
            await world.clock.until(lambda: world.shard(0).failures)
            skipping = asyncio.ensure_future(read_side.obey(Skip(frozenset([S0]))))
            await world.clock.advance(5)
            # While it is being stored, nothing of the entity is delivered.
            assert world.handler.confirmed("a") == []
            await world.order(Replay({S0: Offset(0)}))
            may_store.set()
            await world.clock.until(skipping.done)
            assert skipping.result().count == 0
            await world.clock.until(lambda: world.handler.confirmed("a") == [1, 2])
            assert await is_handled(world, 1) is True
            assert world.letters.skipped[READ_SIDE] == {}
