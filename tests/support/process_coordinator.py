"""A coordinator of entities in virtual time, with processes that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from cos_ray.domain.errors import EntityLost
from cos_ray.domain.ids import EntityId
from cos_ray.domain.passivation import NodeId, ProcessLimits
from cos_ray.placement.process_coordinator import ProcessCoordinator
from cos_ray.testing.clock import ManualClock

A, B, C, D = map(EntityId, "abcd")
N1, N2 = NodeId("n1"), NodeId("n2")


class FakeHomes:
    """Processes that start when told; entities are busy when told."""

    def __init__(self, bounds: Mapping[NodeId, int], starts_at_once: int = 10) -> None:
        self.by_node = dict(bounds)
        self.starts = starts_at_once
        self.there: dict[EntityId, NodeId] = {}
        self.most_there = 0
        self.started: list[EntityId] = []
        self.left: list[EntityId] = []
        self.busy: set[EntityId] = set()
        self.rested: dict[EntityId, float] = {}
        self.broken: set[EntityId] = set()
        self.warmed: list[tuple[NodeId, int]] = []
        self.prepared: list[NodeId] = []
        self.unprepared: set[NodeId] = set()
        self.preparing = asyncio.Event()
        self.preparing.set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.hung: dict[EntityId, asyncio.Event] = {}
        """Each set when the process is killed."""
        self.killed: list[EntityId] = []
        self.clock = ManualClock()
        self.patience = 7.0
        """Seconds after which one that hangs is given up."""

    def hang(self, entity_id: EntityId) -> None:
        self.hung[entity_id] = asyncio.Event()

    async def answered(self, entity_id: EntityId) -> bool:
        """Whether it answers, as soon as that is clear; EntityLost after a while, as the real ones."""
        if (killed := self.hung.get(entity_id)) is None:
            return True
        patience = asyncio.ensure_future(self.clock.sleep(self.patience))
        waiting = asyncio.ensure_future(killed.wait())
        await asyncio.wait({patience, waiting}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        waiting.cancel()
        if not killed.is_set():
            raise EntityLost("no answer")
        return False

    async def find(self, entity_id: EntityId) -> EntityId | None:
        return entity_id if entity_id in self.there else None

    async def ping(self, home: EntityId) -> None:
        if (killed := self.hung.get(home)) is not None:
            await killed.wait()
            raise EntityLost("killed")

    async def kill(self, home: EntityId) -> None:
        if self.there.pop(home, None) is not None:
            self.killed.append(home)
        if (killed := self.hung.pop(home, None)) is not None:
            killed.set()

    async def start(self, entity_id: EntityId, node: NodeId) -> EntityId:
        if entity_id in self.broken:
            raise EntityLost("broken")
        if entity_id not in self.there:
            self.started.append(entity_id)
            self.there[entity_id] = node
            self.most_there = max(self.most_there, len(self.there))
        return entity_id

    async def up(self, home: EntityId) -> None:
        await self.gate.wait()
        if not await self.answered(home):
            raise EntityLost("killed")

    async def passivate(self, entity_id: EntityId, after: float) -> float | None:
        await asyncio.sleep(0)
        if not await self.answered(entity_id):
            return None
        if entity_id in self.busy:
            return 0.0
        if self.rested.get(entity_id, after) < after:
            return self.rested[entity_id]
        self.there.pop(entity_id, None)
        self.left.append(entity_id)
        return None

    async def census(self) -> Mapping[EntityId, NodeId]:
        return dict(self.there)

    async def bounds(self) -> Mapping[NodeId, int]:
        return self.by_node

    async def starts_at_once(self) -> int:
        return self.starts

    async def prepare(self, node: NodeId) -> None:
        await self.preparing.wait()
        if node in self.unprepared:
            raise EntityLost("no database")
        self.prepared.append(node)

    async def warm(self, node: NodeId, most: int) -> None:
        self.warmed.append((node, most))


class Rig:
    def __init__(self, homes: FakeHomes, limits: ProcessLimits | None = None) -> None:
        self.homes, self.clock = homes, homes.clock
        self.coordinator = ProcessCoordinator(homes, limits or ProcessLimits(idle_after=1000.0), self.clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Rig]:
        task = asyncio.create_task(self.coordinator.run())
        await self.clock.pass_time(0)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def admitted(self, entity_id: EntityId, within: float = 1.0) -> bool:
        """Whether it gets in within so many seconds."""
        asked = asyncio.ensure_future(self.coordinator.admit(entity_id))
        await self.clock.pass_time(within)
        if asked.done():
            return await asked == entity_id
        asked.cancel()
        return False
