"""With `auto` placement: the way to entities' own actors, for shard hosts and for who sends commands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError

from cos_ray.cluster.endpoints import Dialer
from cos_ray.cluster.entity_connection import EntityConnection, first_line
from cos_ray.cluster.names import entity_actor_name
from cos_ray.cluster.process_coordinator_actor import FoundProcessCoordinator, ProcessCoordinatorSpec
from cos_ray.cluster.shard_hosts import ShardHostActors
from cos_ray.domain.errors import EntityLost, NoRoom
from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import Room
from cos_ray.domain.shard_assignment import HostId
from cos_ray.placement.promotions import OwnProcess
from cos_ray.system.certificates import TlsFiles
from cos_ray.system.cpu_load import CpuLoad

logger = logging.getLogger(__name__)

UP_WITHIN = 60.0
"""Seconds that a process may take to start, and to be admitted before that."""

FOUND_WITHIN = 2.0
"""Seconds in which a process that is there says where it is reached."""

ENDS_WITHIN = 6.0
"""Seconds in which a process that is told to leave ends what it has in hand."""

_Answer = TypeVar("_Answer")


class EntityEndpoints:
    """The way from this process to entities' own actors that shard hosts tell of."""

    def __init__(self, namespace: str, tls: TlsFiles | None) -> None:
        self._namespace = namespace
        self._dialer = Dialer(tls)

    async def open(self, entity_id: EntityId, way: bytes) -> EntityConnection:
        """The way to this very actor, which must have started. Raises EntityLost."""
        actor = await self.find(entity_id)
        if actor is None or _way_of(actor) != way:
            raise EntityLost("that actor is gone")
        return await self.to(actor)

    async def to(self, actor: ActorHandle[Any]) -> EntityConnection:
        """The way to the actor, when it has started. Raises EntityLost."""
        return await EntityConnection.to(actor, self._dialer)

    async def find(self, entity_id: EntityId) -> ActorHandle[Any] | None:
        """The entity's actor, if it has one."""
        try:
            # Ray asks its head node and blocks meanwhile: not in this loop.
            return await asyncio.to_thread(ray.get_actor, entity_actor_name(entity_id), self._namespace)
        except (RayError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class OwnActor:
    """`OwnProcess`: an actor that has answered, and a connection to it."""

    actor: ActorHandle[Any]
    connection: EntityConnection

    @property
    def way(self) -> bytes:
        """See `OwnProcess`."""
        return _way_of(self.actor)

    @property
    def has_left(self) -> bool:
        """See `OwnProcess`."""
        return self.connection.has_left

    def when_gone(self, tell: Callable[[], None]) -> None:
        """See `OwnProcess`."""
        self.connection.when_cut(tell)


class OwnActors:
    """`OwnProcesses`, admitted by the coordinator of dedicated placement."""

    def __init__(self, spec: ProcessCoordinatorSpec) -> None:
        self._endpoints = EntityEndpoints(spec.namespace, spec.tls)
        self._coordinator = FoundProcessCoordinator(spec)
        self._load, self._most_cpu = CpuLoad(), spec.limits.most_cpu

    async def room(self) -> tuple[Room, Collection[EntityId]]:
        """See `OwnProcesses`; busy CPUs are those of this node."""
        is_saturated = self._load.share() > self._most_cpu
        room, present = await self._coordinator.room()
        return replace(room, is_saturated=is_saturated), present

    async def start(self, entity_id: EntityId) -> OwnActor | None:
        """See `OwnProcesses`."""
        return await _in_time(self._started(entity_id), UP_WITHIN)

    async def find(self, entity_id: EntityId) -> OwnActor | None:
        """See `OwnProcesses`."""
        actor = await self._endpoints.find(entity_id)
        return None if actor is None else await _in_time(self._reached(actor), FOUND_WITHIN)

    async def end(self, process: OwnProcess) -> None:
        """See `OwnProcesses`."""
        assert isinstance(process, OwnActor)
        try:
            # Who ends has no answer to give.
            await asyncio.wait_for(_answered(process.actor.dismiss.remote()), ENDS_WITHIN)
        except RayActorError:
            return
        except (RayError, asyncio.TimeoutError):
            logger.info("an entity's process is killed")
        await asyncio.to_thread(_kill, process.actor)

    async def _started(self, entity_id: EntityId) -> OwnActor | None:
        while True:
            try:
                actor = await self._coordinator.admit(entity_id, only_if_room=True)
            except NoRoom:
                return None
            if actor is not None:
                return await self._reached(actor)

    async def _reached(self, actor: ActorHandle[Any]) -> OwnActor:
        """The actor, once it answers, and the journal answers it. Raises EntityLost."""
        connection = await self._endpoints.to(actor)
        await connection.ready()
        return OwnActor(actor, connection)


class AutoNeighbourhood:
    """`writeside.auto_entities.Neighbourhood`."""

    def __init__(self, hosts: ShardHostActors, spec: ProcessCoordinatorSpec) -> None:
        self._hosts = hosts
        self._coordinator = FoundProcessCoordinator(spec)
        self._coordinator.prepare()

    async def lost(self, host: HostId, entity_id: EntityId, way: bytes) -> None:
        """Tell the host."""
        await self._hosts.lost(host, entity_id, way)

    def used(self, entity_ids: Sequence[EntityId]) -> None:
        """Tell the coordinator."""
        self._coordinator.used(entity_ids)


def _way_of(actor: ActorHandle[Any]) -> bytes:
    """Tells the actor from any other that the entity has had, or will have."""
    identity: bytes = actor._actor_id.binary()
    return identity


async def _in_time(answer: Awaitable[_Answer], within: float) -> _Answer:
    try:
        return await asyncio.wait_for(answer, within)
    except asyncio.TimeoutError:
        raise EntityLost(f"no answer within {within:g} s") from None


async def _answered(call: Awaitable[_Answer]) -> _Answer:
    return await call


def _kill(actor: ActorHandle[Any]) -> None:
    try:
        ray.kill(actor)
    except RayError as error:
        logger.info("an entity's process is gone already", extra={"reason": first_line(error)})
