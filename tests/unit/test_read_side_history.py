"""A read side whose journal goes back under it: what was read of the lost history counts for nothing."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import EntityId, Offset, Revision, Shard
from cos_ray.domain.read_sides import Refresh, Replay, ShardState, Skip, Start
from tests.support.read_side import READ_SIDE, World


@pytest.fixture
def world() -> World:
    return World()


def heard(world: World) -> list[tuple[str, int]]:
    return [(attempt.entity_id, attempt.revision) for attempt in world.handler.attempts]


def go_back(world: World, offset: int, **saved: int) -> None:
    """The database is what it was when this offset was its last; with these offsets saved, by shard."""
    world.source.go_back(Offset(offset))
    world.offsets.offsets[READ_SIDE].update(
        {Shard(int(shard.removeprefix("of_"))): Offset(offset) for shard, offset in saved.items()}
    )
    world.handler.begin_life()


async def test_new_events_at_the_offsets_of_lost_ones_are_delivered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    kept = world.source.add(0, "a", 3)
    async with world.running():
        await world.clock.until(lambda: world.saved(0) == kept)
        lost = world.source.add(0, "lost", 5)
        await world.clock.until(lambda: world.saved(0) == lost)
        go_back(world, kept, of_0=kept)
        new = world.source.add(0, "new", 2)
        assert new < lost
        await world.clock.until(lambda: ("new", 2) in heard(world))
        assert world.shard(0).state is ShardState.RUNNING
        error = world.shard(0).last_error
        assert error is not None
        assert "went back" in error.reason
    assert [name for name, _ in heard(world)].count("new") == 2
    (record,) = [r for r in caplog.records if "went back" in r.getMessage()]
    assert record.levelno == logging.ERROR


async def test_an_offset_reached_before_is_not_saved_over_the_one_that_is_there(world: World) -> None:
    kept = world.source.add(0, "a", 3)
    async with world.running(save_after=timedelta(seconds=5)):
        await world.clock.until(lambda: world.saved(0) == kept)
        world.source.add(0, "lost", 5)
        await world.clock.until(lambda: ("lost", 5) in heard(world))
        # The last offset is not saved yet, and nothing is read before it is due to be.
        world.source.is_down = True
        go_back(world, kept, of_0=kept)
        saves = len(world.offsets.saves)
        await world.clock.until(lambda: len(world.offsets.saves) > saves)
        assert world.saved(0) == kept
        world.source.is_down = False
        world.source.add(0, "new", 2)
        await world.clock.until(lambda: ("new", 2) in heard(world))


async def test_other_shards_go_on_where_they_are(world: World) -> None:
    kept = world.source.add(1, "a", 3)
    async with world.running():
        await world.clock.until(lambda: world.saved(1) == kept)
        world.source.add(0, "lost", 5)
        await world.clock.until(lambda: ("lost", 5) in heard(world))
        go_back(world, kept, of_0=0)
        world.source.add(0, "new", 2)
        world.source.add(1, "a", 1)
        await world.clock.until(lambda: {("new", 2), ("a", 4)} <= set(heard(world)))
    assert heard(world).count(("a", 1)) == 1


async def test_what_was_read_and_is_lost_waits_for_no_one(world: World) -> None:
    kept = world.source.add(0, "a", 1)
    world.handler.hang("lost", 1)
    async with world.running():
        await world.clock.until(lambda: world.saved(0) == kept)
        world.source.add(0, "lost", 5)
        await world.clock.until(lambda: world.shard(0).pending == 5)
        go_back(world, kept, of_0=kept)
        world.source.add(0, "new", 1)
        await world.clock.until(lambda: ("new", 1) in heard(world))
        await world.clock.until(lambda: world.shard(0).pending == 0)
    assert ("lost", 2) not in heard(world)


async def test_an_order_given_before_that_is_noticed_sets_nothing_ahead(world: World) -> None:
    kept = world.source.add(0, "a", 3)
    async with world.running(poll=timedelta(seconds=1000), idle_poll=timedelta(seconds=1000)):
        await world.clock.until(lambda: world.saved(0) == kept)
        lost = world.source.add(0, "lost", 5)
        world.read_side.notify([Shard(0)])
        await world.clock.until(lambda: world.saved(0) == lost)
        go_back(world, kept, of_0=0)
        with pytest.raises(JournalUnavailable, match="went back"):
            await world.order(Replay({Shard(0): Offset(lost - 1)}))
        world.source.add(0, "new", 1)
        await world.clock.until(lambda: ("new", 1) in heard(world))
    assert heard(world).count(("a", 1)) == 2


@pytest.mark.parametrize(("entity_id", "revision"), [("a", 4), ("b", 1)])
async def test_an_event_is_not_taken_for_a_lost_one_that_was_handled(
    world: World, entity_id: str, revision: int
) -> None:
    """Neither by its entity's number nor by its offset."""
    kept = world.source.add(0, "a", 3)
    async with world.running(poll=timedelta(seconds=1000), idle_poll=timedelta(seconds=1000)) as read_side:
        await world.clock.until(lambda: world.saved(0) == kept)
        lost = world.source.add(0, "a", 2)
        read_side.notify([Shard(0)])
        await world.clock.until(lambda: world.saved(0) == lost)

        async def is_handled(entity_id: str, revision: int) -> bool | None:
            asking = asyncio.ensure_future(
                read_side.handled(Shard(0), EntityId(entity_id), Revision(revision), 1.0)
            )
            await world.clock.until(asking.done)
            return asking.result()

        assert await is_handled("a", 4)
        go_back(world, kept, of_0=kept)
        count = len(heard(world))
        world.source.add(0, entity_id, 1)
        assert not await is_handled(entity_id, revision)
        await world.clock.until(lambda: (entity_id, revision) in heard(world)[count:])
        assert await is_handled(entity_id, revision)


async def test_a_stored_offset_beyond_the_end_of_the_journal_stops_its_shard_until_it_is_replayed(
    world: World,
) -> None:
    end = world.source.add(0, "a", 3)
    world.offsets.offsets[READ_SIDE][Shard(0)] = Offset(end + 1)
    async with world.running():
        await world.clock.until(lambda: world.shard(0).state is ShardState.STOPPED)
        error = world.shard(0).last_error
        assert error is not None
        assert f"{end + 1} lies beyond the end of the journal ({end})" in error.reason
        world.source.add(0, "a", 3)
        await world.clock.advance(60)
        assert heard(world) == []
        await world.order(Replay({Shard(0): Offset(0)}))
        await world.clock.until(lambda: len(heard(world)) == 6)


def test_at_the_end_of_the_journal_one_may_begin() -> None:
    start = Start(Offset(7))
    assert start.fault(Offset(7)) is None
    assert start.fault(Offset(8)) is not None


class TestDeletedEvents:
    async def test_one_that_comes_back_to_a_place_before_deleted_events_stops_until_an_operator_skips_them(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = world.source.add(0, "a", 20)
        async with world.running():
            await world.clock.until(lambda: world.saved(0) == seen)
        deleted = world.source.add(0, "a", 25)
        world.source.add(0, "a", 1)
        world.source.delete(0, deleted)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).state is ShardState.STOPPED)
            assert world.shard(1).state is ShardState.RUNNING
            error = world.shard(0).last_error
            assert error is not None
            assert f"after the stored offset {seen}, up to {deleted}, were deleted" in error.reason
            assert [r for r in caplog.records if r.levelno == logging.ERROR]
            # Resuming is for what a failure stopped: it may be meant for other shards.
            await world.order(Refresh(frozenset([Shard(0), Shard(1)])))
            await world.clock.advance(60)
            assert ("a", 46) not in heard(world)
        async with world.running():
            await world.clock.until(lambda: world.shard(0).state is ShardState.STOPPED)
            assert (await world.order(Skip(frozenset([Shard(0), Shard(1)])))).count == 1
            await world.clock.until(lambda: ("a", 46) in heard(world))
            assert world.shard(0).state is ShardState.RUNNING

    async def test_what_an_operator_has_said_holds_for_the_next_process_too(self, world: World) -> None:
        world.source.add(0, "a", 5)
        world.source.delete(0, world.source.add(0, "a", 5))
        world.source.add(0, "a", 1)
        world.offsets.offsets[READ_SIDE][Shard(0)] = Offset(3)
        world.handler.hang("a", 11)
        async with world.running(drain=timedelta(seconds=1)):
            await world.clock.until(lambda: world.shard(0).state is ShardState.STOPPED)
            await world.order(Skip(frozenset([Shard(0)])))
            await world.clock.until(lambda: ("a", 11) in heard(world))
        assert world.saved(0) == 3
        async with world.running(drain=timedelta(seconds=1)):
            await world.clock.until(lambda: heard(world).count(("a", 11)) == 2)

    async def test_a_new_one_begins_with_what_is_left_and_says_so(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        deleted = world.source.add(0, "a", 5)
        world.source.add(0, "a", 2)
        world.source.delete(0, deleted)
        for _ in range(2):
            async with world.running():
                await world.clock.until(lambda: ("a", 7) in heard(world))
                assert world.shard(0).state is ShardState.RUNNING
        assert heard(world) == [("a", 6), ("a", 7)]
        said = [r for r in caplog.records if "what is left" in r.getMessage()]
        assert [record.levelno for record in said] == [logging.WARNING]

    async def test_one_that_is_restarted_begins_with_what_is_left_and_says_so(self, world: World) -> None:
        seen = world.source.add(0, "a", 5)
        async with world.running():
            await world.clock.until(lambda: world.saved(0) == seen)
            world.source.add(0, "a", 1)
            world.source.delete(0, seen)
            await world.order(Replay({Shard(0): Offset(0)}))
            await world.clock.until(lambda: world.shard(0).state is ShardState.RUNNING)
            error = world.shard(0).last_error
            assert error is not None
            assert error.reason == f"of the events up to offset {seen} some are deleted"
        assert world.offsets.accepted == {(READ_SIDE, Shard(0)): seen}

    async def test_one_that_has_seen_what_is_deleted_has_nothing_to_say(self, world: World) -> None:
        seen = world.source.add(0, "a", 5)
        async with world.running():
            await world.clock.until(lambda: world.saved(0) == seen)
        world.source.add(0, "a", 1)
        world.source.delete(0, seen)
        async with world.running():
            await world.clock.until(lambda: ("a", 6) in heard(world))
            assert world.shard(0).last_error is None
