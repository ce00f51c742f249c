"""The way to shard hosts and their coordinator, by name, for everyone who has to reach them."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cos_ray.cluster.endpoints import Dialer, EndpointAddress
from cos_ray.cluster.names import SHARD_COORDINATOR, SHARD_HOST, host_of_actor_name, shard_host_actor_name
from cos_ray.cluster.shard_host_actor import HomeBuilder, ShardHostActor
from cos_ray.domain.errors import EntityLost, EntityNotReached
from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.passivation import NodeId, roomiest
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.domain.status import ShardHostStatus
from cos_ray.ray_internals.actors import living_actors
from cos_ray.ray_internals.prestart_workers import living_nodes
from cos_ray.system.certificates import TlsFiles
from cos_ray.transport.batching import Batch, BatchReply
from cos_ray.transport.encoding import batch_to_bytes, reply_from_bytes
from cos_ray.transport.rpc import ConnectionLost, NotSent, RpcConnection

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

RETRY_AFTER = 30.0
"""Seconds before a connection is tried again that could not be made."""

CPUS_PER_HOST = 2
"""CPUs of the cluster for each host, unless told otherwise: the others are for all else a command needs."""

BEGUN_WITHIN = 60.0
"""Seconds in which a host that was begun on a node counts there without being seen."""

COORDINATOR_ANSWERS_WITHIN = 3.0
"""Seconds after which the coordinator counts as lost for whoever asks it."""


class ShardHostActors:
    """`Hosts` for those who send commands, and `Neighbours` for the hosts themselves."""

    def __init__(self, namespace: str, tls: TlsFiles | None = None) -> None:
        """`tls`: how commands travel between machines; None: in plain text."""
        self._namespace = namespace
        self._dialer = Dialer(tls)
        self._origin = uuid.uuid4().hex
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._connections: dict[HostId, asyncio.Task[RpcConnection | None]] = {}

    async def exchange(self, host: HostId, assignment: Assignment, batch: Batch) -> BatchReply:
        """See `cos_ray.placement.shard_region.Hosts`."""
        data = batch_to_bytes(assignment, batch)
        try:
            connection = await self._connection(host)
        except EntityLost as error:
            raise EntityNotReached(str(error)) from error
        if connection is None:
            answer = await self._ask_host(host, lambda actor: actor.exchange.remote(self._origin, data))
            return reply_from_bytes(answer)
        try:
            return reply_from_bytes(await connection.ask("exchange", self._origin, data))
        except NotSent as error:
            raise EntityNotReached(_first_line(error)) from error
        except ConnectionLost as error:
            raise EntityLost(_first_line(error)) from error

    async def assignment(self) -> Assignment:
        """The newest assignment, by the coordinator. Raises EntityLost."""
        return await self._ask_coordinator(lambda coordinator: coordinator.assignment.remote())

    async def resize(self, seats: int | None) -> Assignment:
        """Have so many hosts from now on, None: as many as suit the cluster. Raises EntityLost."""
        return await self._ask_coordinator(lambda coordinator: coordinator.resize.remote(seats))

    async def release(self, host: HostId, assignment: Assignment, shards: Collection[Shard]) -> None:
        """Return when the host no longer runs anything in these shards. Raises EntityLost."""
        await self._ask_host(host, lambda actor: actor.release.remote(assignment, shards))

    async def tell(self, host: HostId, assignment: Assignment | None) -> Assignment:
        """Let it go by this assignment unless it knows a newer one; the one it goes by. Raises EntityLost."""
        return await self._ask_host(host, lambda actor: actor.tell.remote(assignment))

    async def lost(self, host: HostId, entity_id: EntityId, way: bytes) -> None:
        """Tell the host that an entity's own process gives no answers. Raises EntityLost."""
        await self._ask_host(host, lambda actor: actor.lost.remote(entity_id, way))

    async def status(self, host: HostId) -> ShardHostStatus:
        """How the host is. Raises EntityLost."""
        return await self._ask_host(host, lambda actor: actor.status.remote())

    async def _connection(self, host: HostId) -> RpcConnection | None:
        """The connection to a host; None if there cannot be one, and Ray has to carry what it is asked."""
        opening = self._connections.get(host)
        if opening is not None and opening.done() and _is_of_no_use(opening):
            opening = None
        if opening is None:
            opening = self._connections[host] = asyncio.get_running_loop().create_task(self._open(host))
        # Shielded: others wait for the same one.
        return await asyncio.shield(opening)

    async def _open(self, host: HostId) -> RpcConnection | None:
        # Of hosts that were replaced or retired.
        for other in [
            each for each, opening in self._connections.items() if opening.done() and _is_of_no_use(opening)
        ]:
            del self._connections[other]
        caller = self._dialer.caller()
        endpoint: EndpointAddress = await self._ask_host(host, lambda actor: actor.endpoint.remote(caller))
        try:
            return await self._dialer.dial(endpoint)
        except ConnectionLost as error:
            if not self._dialer.allows_ray_calls(endpoint, error):
                raise EntityLost(_first_line(error)) from error
            logger.warning(
                "shard host is reached by Ray calls only, slowly", extra={"host": host, "reason": str(error)}
            )
            # It may have been busy only.
            asyncio.get_running_loop().call_later(RETRY_AFTER, self._connections.pop, host, None)
            return None

    async def _ask_host(
        self, host: HostId, call: Callable[[ActorHandle[Any]], Awaitable[_Answer]]
    ) -> _Answer:
        return await self._ask(shard_host_actor_name(host), call)

    async def _ask_coordinator(self, call: Callable[[ActorHandle[Any]], Awaitable[_Answer]]) -> _Answer:
        try:
            return await asyncio.wait_for(self._ask(SHARD_COORDINATOR, call), COORDINATOR_ANSWERS_WITHIN)
        except asyncio.TimeoutError:
            raise EntityLost("the coordinator of the shard hosts does not answer") from None

    async def _ask(self, name: str, call: Callable[[ActorHandle[Any]], Awaitable[_Answer]]) -> _Answer:
        try:
            handle = self._handles.get(name)
            if handle is None:
                # Ray asks its head node and blocks meanwhile: not in this loop.
                handle = await asyncio.to_thread(ray.get_actor, name, namespace=self._namespace)
                self._handles[name] = handle
            return await call(handle)
        except (RayError, ValueError) as error:
            self._handles.pop(name, None)
            raise EntityLost(_first_line(error)) from error


class TendedShardHosts(ShardHostActors):
    """`ports.ShardHosts`: what their coordinator does with them."""

    def __init__(self, namespace: str, build: HomeBuilder, tls: TlsFiles | None = None) -> None:
        super().__init__(namespace, tls)
        self._build, self._tls = build, tls
        # Where hosts were begun that may not have started yet, and when.
        self._begun: dict[HostId, tuple[NodeId, float]] = {}
        self._beginning = asyncio.Lock()

    async def names(self) -> Sequence[HostId]:
        """See `ports.ShardHosts`."""
        actors = await self._blocking(lambda: ray.util.list_named_actors(all_namespaces=True))
        hosts = [host_of_actor_name(each["name"]) for each in actors if each["namespace"] == self._namespace]
        return [host for host in hosts if host is not None]

    async def seats(self) -> int:
        """See `ports.ShardHosts`."""
        cpus = await self._blocking(lambda: ray.cluster_resources().get("CPU", 1))
        return max(1, int(cpus) // CPUS_PER_HOST)

    async def start(self, host: HostId, assignment: Assignment) -> None:
        """See `ports.ShardHosts`."""

        def start() -> None:
            node = self._emptiest_node()
            ShardHostActor.options(  # type: ignore[attr-defined]
                name=shard_host_actor_name(host),
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=True,
                # Soft: rather elsewhere than not at all, if the node goes.
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True) if node else "SPREAD",
            ).remote(host, assignment, self._build, self._tls)
            if node is not None:
                self._begun[host] = (node, time.monotonic())

        # One at a time: each goes where the ones before it have not.
        async with self._beginning:
            await self._blocking(start)

    def _emptiest_node(self) -> NodeId | None:
        """Where there are the fewest hosts for its CPUs. Ray's SPREAD may put all of them on one node."""
        present = dict(living_actors(self._namespace, SHARD_HOST))
        hosts = Counter(NodeId(node) for node in present.values())
        now = time.monotonic()
        self._begun = {host: begun for host, begun in self._begun.items() if now - begun[1] < BEGUN_WITHIN}
        for host, (node, _) in self._begun.items():
            if shard_host_actor_name(host) not in present:
                hosts[node] += 1
        cpus = {NodeId(node["NodeID"]): int(node["Resources"].get("CPU", 0)) for node in living_nodes()}
        return roomiest(hosts, {node: number for node, number in cpus.items() if number})

    async def retire(self, host: HostId) -> None:
        """See `ports.ShardHosts`."""
        self._begun.pop(host, None)
        assignment = await self.tell(host, None)
        await self._ask_host(host, lambda actor: actor.retire.remote(assignment))

    async def _blocking(self, call: Callable[[], _Answer]) -> _Answer:
        try:
            return await asyncio.to_thread(call)
        except (RayError, ValueError) as error:
            raise EntityLost(_first_line(error)) from error


def _is_of_no_use(opening: asyncio.Task[RpcConnection | None]) -> bool:
    """Whether a connection could not be made, or has been cut."""
    if opening.cancelled() or opening.exception() is not None:
        return True
    connection = opening.result()
    return connection is not None and connection.is_cut


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
