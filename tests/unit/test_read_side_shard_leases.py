"""Several processes of one read side, and several copies of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Offset, Owner, ReadSideId, Shard
from cos_ray.domain.read_sides import ShardState
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.readside.read_side import ReadSide
from cos_ray.testing.offsets import MemoryReadSides
from tests.support.read_side import READ_SIDE, World


@pytest.fixture
def world() -> World:
    return World()


def states(read_side: ReadSide) -> list[ShardState]:
    return [status.state for status in read_side.status()]


async def killed(world: World, read_side: ReadSide) -> asyncio.Task[None]:
    """One that is going to be killed."""
    run = asyncio.ensure_future(read_side.run())
    await world.clock.settle()
    return run


async def test_each_process_delivers_its_own_shards(world):
    world.source.add(0, "a", 3)
    world.source.add(1, "b", 3)
    one, other = world.build(home=[0]), world.build(home=[1])
    async with world.alive(one), world.alive(other):
        await world.clock.until(world.all_confirmed)
        assert states(one) == [ShardState.RUNNING, ShardState.ELSEWHERE]
        assert states(other) == [ShardState.ELSEWHERE, ShardState.RUNNING]
        await world.clock.advance(60)
    assert len(world.handler.attempts) == 6


async def test_the_shards_of_one_that_dies_are_taken_over_and_given_back(world):
    one, other = world.build(home=[0]), world.build(home=[1])
    dying = await killed(world, one)
    async with world.alive(other):
        dying.cancel()
        world.source.add(0, "a", 3)
        await world.clock.until(world.all_confirmed, within=25)
        assert states(other) == [ShardState.RUNNING] * 2
        world.handler.begin_life()
        back = world.build(home=[0])
        async with world.alive(back):
            await world.clock.advance(6)
            assert states(other) == [ShardState.ELSEWHERE, ShardState.RUNNING]
            world.source.add(0, "a", 2)
            await world.clock.until(world.all_confirmed)


async def test_one_that_stops_in_good_order_leaves_its_shards_at_once(world):
    one, other = world.build(home=[0]), world.build(home=[1])
    async with world.alive(other):
        async with world.alive(one):
            pass
        world.source.add(0, "a")
        await world.clock.until(world.all_confirmed, within=6)


async def test_an_older_copy_cannot_put_the_offset_back_and_lets_go(world):
    world.source.add(0, "a", 2)
    old = world.build([0])
    async with world.alive(old):
        await world.clock.until(lambda: world.saved(0))
        gate = world.handler.hang("a", 3)
        world.source.add(0, "a", 3)
        old.notify([Shard(0)])
        await world.clock.advance(1)
        world.handler.begin_life()
        world.handler.heal()
        new = world.build([0])
        async with world.alive(new):
            await world.clock.until(world.all_confirmed)
            newest = world.source.events(0)[-1].offset
            await world.clock.until(lambda: world.saved(0) == newest)
            # What the old copy was about to do comes to an end, and nothing of it is saved.
            gate.set()
            await world.clock.advance(6)
            assert states(old) == [ShardState.ELSEWHERE]
            assert world.saved(0) == newest
            world.source.add(0, "a")
            attempts = len(world.handler.attempts)
            await world.clock.advance(10)
            assert len(world.handler.attempts) == attempts + 1


class Partitioned(MemoryReadSides):
    """One owner cannot reach it."""

    cut_off: Owner | None = None

    async def keep(self, read_side: ReadSideId, owner: Owner, lasts: timedelta) -> Mapping[Shard, bool]:
        if owner == self.cut_off:
            raise JournalUnavailable("cut off")
        return await super().keep(read_side, owner, lasts)


async def test_one_that_cannot_renew_its_claims_falls_silent_and_goes_on_when_it_can(world):
    world.offsets = Partitioned(world.clock)
    read_side = world.build([0])
    async with world.alive(read_side):
        await world.clock.advance(1)
        world.offsets.cut_off = world.offsets.owner(READ_SIDE, Shard(0))
        await world.clock.advance(20)
        world.source.add(0, "a", 3)
        read_side.notify([Shard(0)])
        await world.clock.advance(10)
        assert world.handler.attempts == []
        world.offsets.cut_off = None
        await world.clock.until(world.all_confirmed, within=5)


async def test_a_save_on_its_way_when_the_shard_is_lost_is_refused(world):
    world.offsets.offsets[READ_SIDE][Shard(0)] = Offset(1)
    await world.offsets.take(READ_SIDE, [Shard(0)], Owner("new"), LeaseRank(1, True, 1), timedelta(seconds=1))
    assert await world.offsets.save(READ_SIDE, {Shard(0): Offset(9)}, Owner("old")) == [0]
    assert world.saved(0) == 1
