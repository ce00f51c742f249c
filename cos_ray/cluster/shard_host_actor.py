"""One shard host's own process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Protocol

import ray
from ray.actor import exit_actor

from cos_ray.cluster.endpoints import Caller, Endpoint, EndpointAddress
from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.domain.status import ShardHostStatus
from cos_ray.placement.shard_host import ShardHost
from cos_ray.ray_internals.prestart_workers import keep_one_warm
from cos_ray.system.certificates import TlsFiles
from cos_ray.transport.batching import BatchingServer
from cos_ray.transport.encoding import batch_from_bytes, reply_to_bytes


class Home(Protocol):
    """A shard host with what it holds open."""

    host: ShardHost
    server: BatchingServer

    def status(self) -> ShardHostStatus:
        """How it is."""
        ...

    def lost(self, entity_id: EntityId, way: bytes) -> None:
        """An entity's own process gives no answers."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


LEAVES_WITHIN = 2.0
"""Seconds in which those who send commands hear that this process ends."""

HomeBuilder = Callable[[HostId, Assignment], Coroutine[Any, Any, Home]]


# max_task_retries stays 0: Ray would bring a batch again although its commands may already have run.
@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=1000)
class ShardHostActor:
    """Hosts one `ShardHost`; the behaviour is in `cos_ray.placement.shard_host`."""

    def __init__(
        self, host: HostId, assignment: Assignment, build: HomeBuilder, tls: TlsFiles | None = None
    ) -> None:
        # Begun here and not by a call: after a restart Ray runs the constructor only.
        self._home = asyncio.get_running_loop().create_task(build(host, assignment))
        # Should this process, or another of this node, die, the next one starts in a fraction of the time.
        self._warming = asyncio.get_running_loop().create_task(keep_one_warm())
        self._endpoint = Endpoint({}, timed={"exchange": self._exchange}, tls=tls)

    async def endpoint(self, caller: Caller) -> EndpointAddress:
        """Where `exchange` is called at a fraction of the cost."""
        return await self._endpoint.address_for(caller)

    async def exchange(self, origin: str, data: bytes) -> bytes:
        """Commands in, replies out: see `cos_ray.transport.batching`."""
        return await self._exchange(0.0, origin, data)

    async def _exchange(self, late: float, origin: str, data: bytes) -> bytes:
        home = await self._home
        assignment, batch = batch_from_bytes(data, late)
        home.host.adopt(assignment)
        return reply_to_bytes(await home.server.exchange(origin, batch))

    async def tell(self, assignment: Assignment | None) -> Assignment:
        """Go by this assignment unless a newer one is known; the one that is gone by."""
        home = await self._home
        if assignment is not None:
            home.host.adopt(assignment)
        return home.host.assignment

    async def release(self, assignment: Assignment, shards: Collection[Shard]) -> None:
        """Return when nothing runs in these shards any more."""
        await (await self._home).host.release(assignment, shards)

    async def retire(self, assignment: Assignment) -> None:
        """End what has begun, then the process; the caller sees its end, unless it is given a seat again."""
        home = await self._home
        await home.host.retire(assignment)
        await home.server.emptied()
        if home.host.has_seat:
            return
        # Of a command that is under way when this process ends, nobody could say whether it was run.
        await self._endpoint.close(LEAVES_WITHIN)
        await home.close()
        exit_actor()

    async def lost(self, entity_id: EntityId, way: bytes) -> None:
        """An entity's own process gives no answers: the entity lives here again."""
        (await self._home).lost(entity_id, way)

    async def status(self) -> ShardHostStatus:
        """How it is."""
        return (await self._home).status()

    async def pid(self) -> int:
        """This process's id."""
        return os.getpid()
