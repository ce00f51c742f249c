"""How a read side gives its shards up: when the database hangs, and when it falls over itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Owner, ReadSideId, Shard
from cos_ray.domain.read_sides import ShardState
from cos_ray.readside.offset_keeper import OffsetKeeper
from cos_ray.testing.offsets import MemoryReadSides
from tests.support.read_side import READ_SIDE, World
from tests.unit.test_read_side_hand_over import handler_of, state

S0 = Shard(0)


class Hanging(MemoryReadSides):
    """While it hangs, nobody hears what became of a release; `thaw` carries it out."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self.hangs = False
        self.late: list[tuple[ReadSideId, Collection[Shard], Owner, int | None]] = []

    async def thaw(self) -> None:
        """Carry out what was held up."""
        for read_side, shards, owner, run in self.late:
            await super().release(read_side, shards, owner, run)

    async def release(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, run: int | None = None
    ) -> None:
        if self.hangs:
            self.late.append((read_side, shards, owner, run))
            raise JournalUnavailable("no answer")
        await super().release(read_side, shards, owner, run)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def offsets(world: World, shown: list[int]) -> Hanging:
    """Where the world's read sides have their claims; there is an event."""
    offsets = Hanging(world)
    world.offsets = offsets
    world.served = handler_of(shown)
    world.source.add(0, "a")
    return offsets


@pytest.fixture
def shown() -> list[int]:
    """The revisions that any release's handler was shown, in order."""
    return []


async def test_a_release_that_is_carried_out_late_takes_no_shard_away_that_was_taken_again_since(
    world: World, offsets: Hanging, shown: list[int]
) -> None:
    old = world.build([0], release="old")
    async with world.alive(old):
        await world.clock.until(lambda: shown == [1])
        offsets.hangs = True
        dying = asyncio.ensure_future(world.build([0], release="new").run())
        await world.clock.until(lambda: offsets.late)
        dying.cancel()
        # Whoever asked is forgotten by then; whether the shard was given up is not known.
        for _ in range(20):
            await world.clock.advance(0.5)
            assert state(old) is not ShardState.RUNNING
        offsets.hangs = False
        await world.clock.until(lambda: state(old) is ShardState.RUNNING, within=5)
        await offsets.thaw()
        assert offsets.owner(READ_SIDE, S0) is not None
        world.source.add(0, "a")
        await world.clock.until(lambda: shown == [1, 2])


async def test_a_shard_given_up_without_an_answer_is_had_by_whoever_asked(
    world: World, offsets: Hanging, shown: list[int]
) -> None:
    old, new = world.build([0], release="old"), world.build([0], release="new")
    async with world.alive(old):
        await world.clock.until(lambda: shown == [1])
        offsets.hangs = True
        async with world.alive(new):
            await world.clock.until(lambda: offsets.late)
            offsets.hangs = False
            await offsets.thaw()
            await world.clock.until(lambda: state(new) is ShardState.RUNNING, within=5)
            await world.clock.advance(10)
            assert (state(old), state(new)) == (ShardState.ELSEWHERE, ShardState.RUNNING)


async def test_what_fell_over_gives_its_shards_up_and_the_next_run_has_them_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(coordinator: OffsetKeeper) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as fault:
        # One of ours, that nobody foresaw.
        fault.setattr(OffsetKeeper, "begin_save", fail)
        run = asyncio.ensure_future(world.build([0]).run())
        await world.clock.settle()
        world.source.add(0, "a")
        await world.clock.until(run.done)
        with pytest.raises(ZeroDivisionError):
            run.result()
    again = world.build([0])
    async with world.alive(again):
        await world.clock.until(lambda: state(again) is ShardState.RUNNING, within=1)
