"""Sharded placement in one event loop, without Ray: hosts that can be killed, and frozen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from cos_ray.domain.errors import EntityLost, EntityNotReached
from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.domain.messages import Append
from cos_ray.domain.passivation import LiveLimits
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.domain.sharding import shard_of
from cos_ray.placement import shard_coordinator
from cos_ray.placement.live_entities import LiveEntities
from cos_ray.placement.shard_coordinator import ShardCoordinator
from cos_ray.placement.shard_host import HoldsEntities, ShardHost
from cos_ray.placement.shard_region import ShardRegion
from cos_ray.ports import Clock, WriteHandler
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.transport.batching import Batch, BatchingServer, BatchReply
from cos_ray.writeside.entity import Entity
from cos_ray.writeside.publishing import PublishingJournal
from tests.support.journal import SHARDS

_Answer = TypeVar("_Answer")


class Process:
    """A shard host as a process: frozen, it answers nothing and appends nothing; killed, never again."""

    def __init__(self, cluster: MemoryCluster, host: HostId, assignment: Assignment) -> None:
        self.is_awake = asyncio.Event()
        self.is_awake.set()
        self.is_gone = asyncio.Event()
        self.live = LiveEntities(self._activate, LiveLimits(), cluster.clock)
        self.host = ShardHost(host, assignment, cluster.wrapped(self), cluster, cluster.clock)
        self.server = BatchingServer(self.host.process, self.host.withdraw)
        self.retiring: asyncio.Future[None] | None = None
        self.batches = 0
        """How many are under way to it, or being answered."""
        self.is_leaving = False
        self._cluster = cluster
        self._journal = _JournalOfProcess(self, cluster.journal)

    def _activate(self, entity_id: EntityId) -> Entity:
        handler, clock = self._cluster.handler, self._cluster.clock
        return Entity(entity_id, shard_of(entity_id, SHARDS), handler, self._journal, clock)

    def end(self) -> None:
        """It is gone, and what it has begun is never heard of."""
        self.is_gone.set()

    async def until_able(self) -> None:
        """Return when the process runs, which a killed one never does again."""
        await self.is_awake.wait()
        if self.is_gone.is_set():
            await asyncio.Event().wait()

    async def ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Its answer. Raises EntityLost when it is gone, or goes before it has answered."""

        async def answer() -> _Answer:
            await self.is_awake.wait()
            answer = await question()
            await self.until_able()
            return answer

        asking = asyncio.ensure_future(answer())
        going = asyncio.ensure_future(self.is_gone.wait())
        try:
            await asyncio.wait([asking, going], return_when=asyncio.FIRST_COMPLETED)
            if self.is_gone.is_set():
                raise EntityLost("killed")
            return asking.result()
        finally:
            asking.cancel()
            going.cancel()


class _JournalOfProcess(PublishingJournal):
    """The journal as one process has it."""

    def __init__(self, process: Process, journal: MemoryJournal) -> None:
        super().__init__(journal, self)
        self._process = process

    def appended(self, shards: Sequence[Shard]) -> None:
        """No one is told."""

    async def append(self, append: Append) -> Offset:
        await self._process.until_able()
        return await super().append(append)


class MemoryCluster:
    """`ports.ShardHosts` and `Neighbours`, over hosts in this loop."""

    def __init__(self, journal: MemoryJournal, handler: WriteHandler, clock: Clock) -> None:
        self.journal, self.handler, self.clock = journal, handler, clock
        self.processes: dict[HostId, Process] = {}
        self.fitting_seats = 2
        self.coordinator = ShardCoordinator(self, SHARDS, None, clock)

    def wrapped(self, process: Process) -> HoldsEntities:
        """What the process's shard host keeps its entities in."""
        return process.live

    def entities(self) -> ShardRegion:
        """The way of one more ingress replica."""
        return ShardRegion(_Replica(self))

    def kill(self, host: HostId) -> None:
        """Lose the process; another one comes up under its name, as it was at first (Ray does that)."""
        process = self.processes[host]
        process.end()
        self.processes[host] = Process(self, host, Assignment(0, SHARDS, process.host.assignment.hosts))

    def thaw(self) -> None:
        """Let every frozen host go on."""
        for process in list(self.processes.values()):
            process.is_awake.set()

    async def notice_silence(self, clock: ManualClock) -> None:
        """Have the coordinator look until it has given up whoever does not answer."""
        looks = shard_coordinator.SILENT_AFTER / shard_coordinator.LOOK_EVERY + 1
        for _ in range(int(looks)):
            clock.advance(shard_coordinator.LOOK_EVERY)
            await self.coordinator.look_after()

    # ports.ShardHosts

    async def names(self) -> Sequence[HostId]:
        return list(self.processes)

    async def seats(self) -> int:
        return self.fitting_seats

    async def start(self, host: HostId, assignment: Assignment) -> None:
        if host not in self.processes:
            self.processes[host] = Process(self, host, assignment)

    async def tell(self, host: HostId, assignment: Assignment | None) -> Assignment:
        process = self.process(host)

        async def tell() -> Assignment:
            if assignment is not None:
                process.host.adopt(assignment)
            return process.host.assignment

        return await process.ask(tell)

    async def retire(self, host: HostId) -> None:
        process = self.process(host)

        async def retire() -> None:
            await process.host.retire(process.host.assignment)
            await process.server.emptied()
            process.is_leaving = True
            while process.batches:
                await asyncio.sleep(0.001)
            await process.until_able()
            process.retiring = None
            if self.processes.get(host) is process and not process.host.has_seat:
                self.processes.pop(host).end()

        # As in a process of its own: it goes on, also when who asked has turned away.
        if process.retiring is None:
            process.retiring = asyncio.ensure_future(retire())
        retiring = process.retiring
        await process.ask(lambda: asyncio.shield(retiring))

    # Neighbours

    async def release(self, host: HostId, assignment: Assignment, shards: Collection[Shard]) -> None:
        process = self.process(host)
        await process.ask(lambda: process.host.release(assignment, shards))

    def process(self, host: HostId) -> Process:
        """The process. Raises EntityLost."""
        if host not in self.processes:
            raise EntityLost(f"there is no {host}")
        return self.processes[host]


class _Replica:
    """`Hosts`, as one ingress replica has them."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def exchange(self, host: HostId, assignment: Assignment, batch: Batch) -> BatchReply:
        process = self._cluster.processes.get(host)
        if process is None or process.is_leaving:
            raise EntityNotReached(f"there is no {host}")

        async def exchange() -> BatchReply:
            process.host.adopt(assignment)
            return await process.server.exchange(str(id(self)), batch)

        process.batches += 1
        try:
            return await process.ask(exchange)
        finally:
            process.batches -= 1

    async def assignment(self) -> Assignment:
        return await self._cluster.coordinator.assignment()
