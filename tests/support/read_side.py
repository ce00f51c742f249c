"""A read side with everything around it in memory, and time that moves when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import count

from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, ReleaseId, Revision, Shard
from cos_ray.domain.read_sides import Obeyed, Order, ShardStatus
from cos_ray.ports import ReadHandler, ReadSideMeter, UnmeasuredReadSide
from cos_ray.readside.management import ReadSideManagement
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.testing.dead_letters import MemoryDeadLetters
from cos_ray.testing.offsets import MemoryReadSides
from cos_ray.testing.read_handlers import RecordingReadHandler, faults_in
from cos_ray.testing.read_sides import MemoryEventSource, SteppedClock

READ_SIDE = ReadSideId("balances")

_lives = count(1)


class World:
    """The surroundings of a read side."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.source = MemoryEventSource()
        self.offsets = MemoryReadSides(self.clock)
        self.letters = MemoryDeadLetters(self._owner)
        self.letters.erased = self.source.erased
        self.handler = RecordingReadHandler()
        self.offsets.went_back = self._go_back
        self.served: ReadHandler | None = None
        """The handler as the read side is to see it, if that is another."""
        self.meter: ReadSideMeter = UnmeasuredReadSide()
        self.read_side: ReadSide

    @property
    def stores(self) -> Stores:
        return Stores(self.source, self.source, self.offsets, self.offsets, self.letters)

    def build(
        self,
        shards: Sequence[int] = (0, 1),
        home: Collection[int] | None = None,
        release: str = "release",
        **settings: object,
    ) -> ReadSide:
        """Another process of the read side, not running yet."""
        self.offsets.holds = self.source.holds
        self.source.accepted = self.offsets.accepted
        return ReadSide(
            ReadSideSettings(READ_SIDE, **settings),  # type: ignore[arg-type]
            [Shard(shard) for shard in shards],
            [Shard(shard) for shard in (shards if home is None else home)],
            Owner(f"life-{next(_lives)}"),
            ReleaseId(release),
            self.stores,
            self.served or self.handler,
            self.clock,
            self.meter,
        )

    @asynccontextmanager
    async def running(self, shards: Sequence[int] = (0, 1), **settings: object) -> AsyncIterator[ReadSide]:
        """The read side, within the block; its next life follows."""
        self.read_side = self.build(shards, **settings)
        async with self.alive(self.read_side):
            yield self.read_side
        self.handler.begin_life()

    @asynccontextmanager
    async def alive(self, read_side: ReadSide) -> AsyncIterator[None]:
        """Run it, and stop it at the end."""
        run = asyncio.ensure_future(read_side.run())
        await self.clock.settle()
        try:
            yield
        finally:
            stop = asyncio.ensure_future(read_side.stop())
            await self.clock.until(stop.done)
            await run

    async def order(self, order: Order) -> Obeyed:
        """Tell the read side, and let time go on until it has obeyed."""
        obeying = asyncio.ensure_future(self.read_side.obey(order))
        await self.clock.until(obeying.done)
        return obeying.result()

    def erase(self, shard: int, entity_id: str, *, notified: bool = True) -> None:
        """
        What an erasure does to the journal and the dead letters, up to its success.

        Not `notified`: the read side has not heard of the last event when all is done.
        """
        self.source.bring_to_its_end(shard, entity_id)
        if notified:
            self.read_side.notify([Shard(shard)])
        self.source.redact(shard, entity_id)
        self.letters.finish_erasure(EntityId(entity_id))

    def shard(self, shard: int) -> ShardStatus:
        return next(each for each in self.read_side.status() if each.shard == shard)

    def _owner(self, read_side: ReadSideId, shard: Shard) -> Owner | None:
        return self.offsets.owner(read_side, shard)

    def _go_back(self) -> None:
        # Tests put other handlers in the place of this one.
        self.handler.begin_life()

    def saved(self, shard: int) -> int | None:
        return self.offsets.offsets[READ_SIDE].get(Shard(shard), Offset(0))

    def faults(self) -> list[str]:
        return faults_in(self.handler.attempts, self.source.histories)

    def all_confirmed(self) -> bool:
        return not self.faults()


class OneProcess:
    """`ReadSideProcesses` of read sides in this process, which may not answer."""

    def __init__(self, processes: Sequence[ReadSide] = ()) -> None:
        self.processes = processes
        self.answers = True
        self.orders: list[Order] = []

    async def obey(self, read_side: ReadSideId, order: Order, timeout: float) -> Sequence[Obeyed]:
        self.orders.append(order)
        if not self.answers:
            return ()
        return [await process.obey(order) for process in self.processes]

    async def handled(
        self, read_side: ReadSideId, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool:
        for process in self.processes:
            answer = await process.handled(shard, entity_id, revision, timeout)
            if answer is not None:
                return answer
        return False


def desk_of(
    read_sides: Sequence[str],
    world: World | None = None,
    processes: OneProcess | None = None,
    shards: int = 2,
) -> ReadSideManagement:
    """The management of these read sides, over a world's stores."""
    world = world or World()
    ids = [ReadSideId(name) for name in read_sides]
    processes = processes or OneProcess()
    return ReadSideManagement(
        ids, shards, world.offsets, world.offsets, world.letters, world.source, processes
    )
