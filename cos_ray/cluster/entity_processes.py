"""The processes of entities, as the coordinator reaches them: detached actors, each bound to a node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cos_ray.cluster.entity_actor import EntityActor, EntityBuilder
from cos_ray.cluster.journal_actor import JournalSpec, found_or_started
from cos_ray.cluster.names import ENTITY, entity_actor_name
from cos_ray.domain.errors import CosError, EntityLost
from cos_ray.domain.ids import EntityId
from cos_ray.domain.passivation import NodeId, default_bound
from cos_ray.ray_internals.actors import is_alive, living_actors
from cos_ray.ray_internals.prestart_workers import keep_warm, living_nodes
from cos_ray.system.certificates import TlsFiles

logger = logging.getLogger(__name__)

UP_WITHIN = 60.0
"""Seconds a process may take to start."""

ANSWERS_WITHIN = 2.0
"""Seconds in which an entity says whether it leaves; then it is taken for busy."""

GONE_WITHIN = 5.0
"""Seconds in which Ray tells of the end of one that leaves."""

_Answer = TypeVar("_Answer")


class EntityProcesses:
    """The coordinator's `EntityProcesses` on Ray."""

    def __init__(
        self, namespace: str, build: EntityBuilder, journal: JournalSpec, tls: TlsFiles | None = None
    ) -> None:
        self._namespace = namespace
        self._build, self._tls = build, tls
        self._journal = journal

    async def start(self, entity_id: EntityId, node: NodeId) -> ActorHandle[Any]:
        """The entity's actor. Raises EntityLost."""
        # Ray asks its head node and blocks meanwhile: not in this loop.
        return await _asked(asyncio.to_thread(self._found_or_started, entity_id, node))

    async def up(self, home: ActorHandle[Any]) -> None:
        """Return when the actor answers. Raises EntityLost."""
        await _asked(_in_time(home.pid.remote(), UP_WITHIN))

    async def passivate(self, entity_id: EntityId, after: float) -> float | None:
        """Let the actor end if it has rested so long. Raises EntityLost when it does not answer."""
        try:
            handle = await asyncio.to_thread(ray.get_actor, entity_actor_name(entity_id), self._namespace)
        except ValueError:
            return None
        except RayError as error:
            raise EntityLost(str(error)) from error
        try:
            rested: float = await _in_time(handle.passivate.remote(after), ANSWERS_WITHIN + GONE_WITHIN)
        except EntityLost:
            raise
        except RayActorError:
            # It ended, and Ray has told so: the name is free.
            return None
        except RayError as error:
            raise EntityLost(str(error)) from error
        return rested

    async def find(self, entity_id: EntityId) -> ActorHandle[Any] | None:
        """The entity's actor, if it lives. Raises EntityLost, also while it starts."""
        return await _asked(asyncio.to_thread(self._found, entity_id))

    async def ping(self, home: ActorHandle[Any]) -> None:
        """Return when the actor answers. Raises EntityLost when it is gone."""
        await _asked(home.pid.remote())

    async def kill(self, home: ActorHandle[Any]) -> None:
        """End the actor: its name is free at once; Ray's node kills its process, if need be after 5 s."""
        await _asked(asyncio.to_thread(ray.kill, home))

    async def census(self) -> Mapping[EntityId, NodeId]:
        """The actors that live. Raises EntityLost."""
        return await _asked(asyncio.to_thread(self._living))

    async def bounds(self) -> Mapping[NodeId, int]:
        """How many actors the memory of each node allows. Raises EntityLost."""
        nodes = await _asked(asyncio.to_thread(living_nodes))
        return {NodeId(node["NodeID"]): default_bound(int(_of(node, "memory"))) for node in nodes}

    async def starts_at_once(self) -> int:
        """One for each CPU: more would all be ready late instead of some early. Raises EntityLost."""
        return sum(int(_of(node, "CPU")) for node in await _asked(asyncio.to_thread(living_nodes)))

    async def prepare(self, node: NodeId) -> None:
        """Start the node's journal actor, and have it connect. Raises EntityLost."""
        journal = await _asked(asyncio.to_thread(found_or_started, self._namespace, self._journal, node))
        reason: CosError | None = await _asked(_in_time(journal.open.remote(), UP_WITHIN))
        if reason is not None:
            raise EntityLost(repr(reason))

    async def warm(self, node: NodeId, most: int) -> None:
        """Have workers without anything to do: an actor that is given one starts in a third of the time."""
        await asyncio.to_thread(keep_warm, node, most)

    def _found_or_started(self, entity_id: EntityId, node: NodeId) -> ActorHandle[Any]:
        try:
            handle: ActorHandle[Any] = EntityActor.options(  # type: ignore[attr-defined]
                name=entity_actor_name(entity_id),
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=True,
                # Soft: rather elsewhere than not at all, if the node goes in this moment.
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
            ).remote(entity_id, self._build, self._tls)
        except ValueError as error:
            # Ray's word for a name that was taken and given up in the same moment.
            raise RayActorError(error_msg=str(error)) from error
        return handle

    def _found(self, entity_id: EntityId) -> ActorHandle[Any] | None:
        try:
            handle: ActorHandle[Any] = ray.get_actor(entity_actor_name(entity_id), self._namespace)
        except ValueError:
            return None
        if not is_alive(handle):
            raise EntityLost("its process has not started, or is gone")
        return handle

    def _living(self) -> dict[EntityId, NodeId]:
        return {
            EntityId(name.removeprefix(ENTITY)): NodeId(node)
            for name, node in living_actors(self._namespace, ENTITY)
        }


def _of(node: Mapping[str, Any], resource: str) -> float:
    amount: float = node["Resources"].get(resource, 0)
    return amount


async def _in_time(call: Awaitable[_Answer], seconds: float) -> _Answer:
    try:
        return await asyncio.wait_for(_awaited(call), seconds)
    except asyncio.TimeoutError:
        raise EntityLost(f"no answer within {seconds:g} s") from None


async def _awaited(call: Awaitable[_Answer]) -> _Answer:
    return await call


async def _asked(question: Awaitable[_Answer]) -> _Answer:
    try:
        return await question
    except RayError as error:
        raise EntityLost((str(error).strip() or type(error).__name__).splitlines()[0]) from error
