"""`auto` placement in one event loop, without Ray: entities' own processes that can be killed, and frozen."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from cos_ray.domain.errors import EntityLost, EntityNotReached
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Command, Reply
from cos_ray.domain.own_processes import Room
from cos_ray.domain.shard_assignment import HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.placement.auto_region import AutoRegion
from cos_ray.placement.dedicated_entity import DedicatedEntity
from cos_ray.placement.promotions import OwnProcess, Promotions
from cos_ray.placement.shard_host import HoldsEntities
from cos_ray.writeside.entity import Entity
from tests.support.journal import SHARDS
from tests.support.sharded import MemoryCluster, Process, _JournalOfProcess

_Answer = TypeVar("_Answer")


class OwnedProcess:
    """An entity's own process: an `OwnProcess` for its shard host, and an `OwnWay` for who sends commands."""

    def __init__(self, cluster: AutoCluster, entity_id: EntityId, way: bytes) -> None:
        self.entity_id, self._way = entity_id, way
        self.is_awake, self.is_gone = asyncio.Event(), asyncio.Event()
        self.is_awake.set()
        self._told: list[Callable[[], None]] = []
        self.has_left = False
        journal = _JournalOfProcess(self, cluster.journal)  # type: ignore[arg-type]  # it asks only if it runs
        entity = Entity(entity_id, shard_of(entity_id, SHARDS), cluster.handler, journal, cluster.clock)
        self.resident = DedicatedEntity(entity, cluster.clock)
        self.asked = 0
        """How many questions have no answer yet."""
        self._cluster = cluster

    @property
    def way(self) -> bytes:
        return self._way

    async def until_able(self) -> None:
        """Return when the process runs, which a killed one never does again."""
        await self.is_awake.wait()
        if self.is_gone.is_set():
            await asyncio.Event().wait()

    def when_gone(self, tell: Callable[[], None]) -> None:
        if self.is_gone.is_set():
            tell()
        else:
            self._told.append(tell)

    when_cut = when_gone

    def cut(self) -> None:
        """What is under way is given up, though the process may hang on."""
        self.kill()

    def kill(self) -> None:
        """It is gone, and what it has begun is never heard of."""
        self.is_gone.set()
        if self._cluster.owned.get(self.entity_id) is self:
            del self._cluster.owned[self.entity_id]
        told, self._told = self._told, []
        for tell in told:
            tell()

    async def process(self, command: Command) -> Reply:
        return await self._ask(lambda: self.resident.process(command))

    async def ping(self) -> None:
        async def answer() -> None:
            pass

        await self._ask(answer)

    async def _ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        if self.is_gone.is_set():
            raise EntityNotReached("killed before it was asked")

        async def answer() -> _Answer:
            await self.until_able()
            answer = await question()
            await self.until_able()
            return answer

        asking, going = asyncio.ensure_future(answer()), asyncio.ensure_future(self.is_gone.wait())
        self.asked += 1
        try:
            await asyncio.wait([asking, going], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise EntityLost("killed")
            return asking.result()
        finally:
            self.asked -= 1
            asking.cancel()
            going.cancel()

    async def emptied(self) -> None:
        """Return when whoever asked has been answered, as a process sees to that ends."""
        await self.resident.at_rest()
        while self.asked:
            await asyncio.sleep(0.001)


class AutoCluster(MemoryCluster):
    """Shard hosts with promotions, which `move` and `look` bring about."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.owned: dict[EntityId, OwnedProcess] = {}
        self.starts: list[EntityId] = []
        self.most = 100
        self.is_saturated = False
        self.promotions: dict[HostId, Promotions] = {}
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.ends_lazily = False
        """Whether processes that are told to end go on for a while instead."""
        self.number = 0
        self.processes_of_entities = _Processes(self)

    def wrapped(self, process: Process) -> HoldsEntities:
        promotions = Promotions(process.live, self.processes_of_entities, self.clock)
        # As `run` does, which looks by the clock; the host is made a moment later.
        promotions._is_mine = partial(_is_home_of, process)
        process.promotions = promotions  # type: ignore[attr-defined]
        return promotions

    def promotions_of(self, entity_id: EntityId) -> Promotions:
        """The promotions of the entity's home."""
        process = next(each for each in self.processes.values() if each.host.is_home_of(entity_id))
        found: Promotions = process.promotions  # type: ignore[attr-defined]
        return found

    async def look(self) -> None:
        """Let every host look once, and begin to move those it finds."""
        for process in list(self.processes.values()):
            await process.promotions.look()  # type: ignore[attr-defined]

    async def move(self, entity_id: EntityId) -> None:
        """Have the entity moved to a process of its own, whatever it is used for."""
        await self.promotions_of(entity_id)._move(entity_id, self.processes_of_entities.start(entity_id))

    def auto_entities(self) -> AutoRegion:
        """The way of one more ingress replica."""
        return AutoRegion(self.entities(), self._opened, self)

    def lose_one(self, chance: random.Random) -> None:
        """Kill one of the entities' own processes, or freeze it for good."""
        if self.owned:
            victim = chance.choice(list(self.owned.values()))
            if chance.random() < 0.5:
                victim.kill()
            else:
                victim.is_awake.clear()

    def thaw(self) -> None:
        super().thaw()
        for owned in self.owned.values():
            owned.is_awake.set()

    async def _opened(self, entity_id: EntityId, way: bytes) -> OwnedProcess:
        for owned in self.owned.values():
            if owned.way == way:
                return owned
        raise EntityLost("it is gone")

    # Neighbourhood

    async def lost(self, host: HostId, entity_id: EntityId, way: bytes) -> None:
        process = self.process(host)

        async def lost() -> None:
            process.promotions.lost(entity_id, way)  # type: ignore[attr-defined]

        await process.ask(lost)

    def used(self, entity_ids: Sequence[EntityId]) -> None:
        """No one is told."""


def _is_home_of(process: Process, entity_id: EntityId) -> bool:
    return process.host.is_home_of(entity_id)


class _Processes:
    """`OwnProcesses`."""

    def __init__(self, cluster: AutoCluster) -> None:
        self._cluster = cluster

    async def room(self) -> tuple[Room, Collection[EntityId]]:
        free = self._cluster.most - len(self._cluster.owned)
        room = Room(max(0, free), 0, 2, is_saturated=self._cluster.is_saturated)
        return room, list(self._cluster.owned)

    async def start(self, entity_id: EntityId) -> OwnedProcess | None:
        self._cluster.starts.append(entity_id)
        await self._cluster.may_start.wait()
        if len(self._cluster.owned) >= self._cluster.most:
            return None
        self._cluster.number += 1
        owned = self._cluster.owned[entity_id] = OwnedProcess(
            self._cluster, entity_id, b"%d" % self._cluster.number
        )
        return owned

    async def find(self, entity_id: EntityId) -> OwnedProcess | None:
        owned = self._cluster.owned.get(entity_id)
        return owned if owned is not None and owned.is_awake.is_set() else None

    async def end(self, process: OwnProcess) -> None:
        assert isinstance(process, OwnedProcess)
        if self._cluster.ends_lazily:
            return
        process.resident.dismiss()
        await self._cluster.may_end.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.emptied(), 0.5)
        process.has_left = process.is_awake.is_set()
        process.kill()
