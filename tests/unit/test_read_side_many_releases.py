"""
Releases come, go, die and are cut off at random: no two ever deliver an entity's events at once.

A story is made up by its seed, which is the test's parameter: a failing one is run again by its name.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import timedelta
from itertools import pairwise

import pytest

from cos_ray.domain.errors import DeliveryFailed, JournalUnavailable
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, Shard
from cos_ray.domain.messages import RowIdentity
from cos_ray.domain.read_sides import ShardState
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.ports import NOTHING_KNOWN
from cos_ray.readside.read_side import ReadSide
from cos_ray.testing.offsets import MemoryReadSides
from cos_ray.testing.read_handlers import Attempt, RecordingReadHandler
from tests.support.read_side import READ_SIDE, World

QUICK = Backoff(timedelta(milliseconds=300), timedelta(seconds=2))


class Shaky(MemoryReadSides):
    """Slow and failing at times, before or after the fact; and out of reach for some."""

    def __init__(self, world: World, chance: random.Random) -> None:
        super().__init__(world.clock)
        self.clock = world.clock
        self.chance = chance
        self.cut_off: set[Owner] = set()
        self.is_calm = False

    async def strike(self, owner: Owner) -> None:
        if owner in self.cut_off:
            await self.clock.sleep(3 * self.chance.random())
            raise JournalUnavailable("cut off")
        if not self.is_calm:
            await self.clock.sleep(self.chance.choice([0.0, 0.0, 0.1, 1.5]) * self.chance.random())
            if self.chance.random() < 0.1:
                raise JournalUnavailable("by chance")

    async def keep(self, read_side: ReadSideId, owner: Owner, lasts: timedelta) -> Mapping[Shard, bool]:
        await self.strike(owner)
        found = await super().keep(read_side, owner, lasts)
        await self.strike(owner)
        return found

    async def take(
        self,
        read_side: ReadSideId,
        shards: Collection[Shard],
        owner: Owner,
        rank: LeaseRank,
        lasts: timedelta,
    ) -> Collection[Shard]:
        await self.strike(owner)
        taken = await super().take(read_side, shards, owner, rank, lasts)
        await self.strike(owner)
        return taken

    async def release(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, run: int | None = None
    ) -> None:
        await self.strike(owner)
        await super().release(read_side, shards, owner, run)
        await self.strike(owner)

    async def save(
        self,
        read_side: ReadSideId,
        offsets: Mapping[Shard, Offset],
        owner: Owner,
        known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN,
    ) -> Collection[Shard]:
        await self.strike(owner)
        refused = await super().save(read_side, offsets, owner, known)
        await self.strike(owner)
        return refused


class Story:
    """What happens, as the seed has it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World()
        self.offsets = self.world.offsets = Shaky(self.world, self.chance)
        self.world.served = self.handler = RecordingReadHandler(self.see)
        self.running: dict[asyncio.Future[None], ReadSide] = {}
        self.stopping: list[asyncio.Future[None]] = []

    async def see(self, _attempt: Attempt) -> None:
        await self.world.clock.sleep(self.chance.choice([0.0, 0.0, 0.1, 2.0, 12.0]) * self.chance.random())
        if not self.offsets.is_calm and self.chance.random() < 0.1:
            raise DeliveryFailed("by chance")

    async def step(self) -> None:
        self.happen(self.chance.choice(["start", "stop", "kill", "cut", "mend", "append", "append", "wait"]))
        await self.world.clock.advance(self.chance.random() * self.chance.choice([0.5, 3, 12]))
        for run in [run for run in self.running if run.done()]:
            del self.running[run]
            assert run.cancelled() or run.exception() is None

    def happen(self, what: str) -> None:
        match what:
            case "start" if len(self.running) < 4:
                self.start()
            case "stop" if self.running:
                self.stopping.append(asyncio.ensure_future(self.one().stop()))
            case "kill" if self.running:
                self.chance.choice(list(self.running)).cancel()
            case "cut":
                owners = sorted(claim.owner for claim in self.offsets.claims.values())
                self.offsets.cut_off |= {owner for owner in owners if self.chance.random() < 0.5}
            case "mend":
                self.offsets.cut_off.clear()
            case "append":
                for _ in range(3):
                    number = self.chance.randrange(5)
                    self.world.source.add(number % 2, f"e{number}")

    def one(self) -> ReadSide:
        return self.chance.choice(list(self.running.values()))

    def start(self) -> None:
        read_side = self.world.build(
            home=self.chance.choice([(0,), (1,), (0, 1)]),
            release=f"release {self.chance.randrange(3)}",
            policy=DeliveryPolicy(waits=QUICK),
        )
        self.running[asyncio.ensure_future(read_side.run())] = read_side

    async def end(self) -> None:
        """All is well again: one process has each shard, and every event is delivered."""
        self.offsets.is_calm = True
        self.offsets.cut_off.clear()
        self.start()
        await self.world.clock.until(lambda: all(stop.done() for stop in self.stopping))
        await self.world.clock.until(self.is_everything_saved)
        await self.world.clock.until(lambda: all(self.at_work(shard) == 1 for shard in (0, 1)))
        for read_side in self.alive():
            stop = asyncio.ensure_future(read_side.stop())
            await self.world.clock.until(stop.done)

    def alive(self) -> list[ReadSide]:
        return [read_side for run, read_side in self.running.items() if not run.done()]

    def at_work(self, shard: int) -> int:
        """How many processes think they have the shard."""
        return sum(each.status()[shard].state is ShardState.RUNNING for each in self.alive())

    def is_everything_saved(self) -> bool:
        saved = self.offsets.offsets[READ_SIDE]
        return all(
            saved.get(Shard(shard)) == events[-1].offset
            for shard in (0, 1)
            if (events := self.world.source.events(shard))
        )


def overlaps(attempts: Collection[Attempt]) -> list[tuple[Attempt, Attempt]]:
    """Deliveries of one entity that were under way at the same time."""
    by_entity: dict[EntityId, list[Attempt]] = defaultdict(list)
    for attempt in sorted(attempts, key=lambda attempt: attempt.began):
        by_entity[attempt.entity_id].append(attempt)
    return [
        (one, next_)
        for found in by_entity.values()
        for one, next_ in pairwise(found)
        if one.ended is None or one.ended > next_.began
    ]


@pytest.mark.parametrize("seed", range(40))
async def test_no_two_processes_deliver_an_entitys_events_at_once_and_none_is_left_out(seed: int) -> None:
    story = Story(seed)
    for _ in range(60):
        await story.step()
    await story.end()
    assert overlaps(story.handler.attempts) == []
    for entity_id, length in story.world.source.histories.items():
        assert set(story.handler.confirmed(entity_id)) == set(range(1, length + 1))
