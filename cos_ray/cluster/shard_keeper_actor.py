"""The keeper of the shard hosts, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.experimental import internal_kv

from cos_ray.cluster.names import SHARD_KEEPER
from cos_ray.domain.errors import StartFailed
from cos_ray.domain.placement import Assignment
from cos_ray.writeside.shard_keeper import ShardKeeper

logger = logging.getLogger(__name__)

KeeperBuilder = Callable[[], ShardKeeper]

STARTED_WITHIN = 60.0
"""Seconds that the keeper may take to have all shard hosts started."""

_SEATS = b"cos_ray_seats"
"""Ray's table of what operators last told each keeper, by its actor's id: another keeper begins anew."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class ShardKeeperActor:
    """Hosts the `ShardKeeper`; the behaviour is in `cos_ray.writeside.shard_keeper`."""

    def __init__(self, build: KeeperBuilder) -> None:
        self._keeper = build()
        self._id: bytes = ray.get_runtime_context().get_actor_id().encode()
        # Begun here and not by a call: after a restart Ray runs the constructor only.
        self._running = asyncio.get_running_loop().create_task(self._run())
        self._running.add_done_callback(_end)

    async def assignment(self) -> Assignment:
        """The newest, as soon as there is one."""
        return await self._keeper.assignment()

    async def resize(self, seats: int | None) -> Assignment:
        """Have so many hosts from now on, also after a restart; None: as many as suit the cluster."""
        told = json.dumps(seats).encode()
        await asyncio.to_thread(internal_kv._internal_kv_put, self._id, told, namespace=_SEATS)
        return await self._keeper.resize(seats)

    async def _run(self) -> None:
        told = await asyncio.to_thread(internal_kv._internal_kv_get, self._id, namespace=_SEATS)
        if told is not None:
            self._keeper.begin_with(json.loads(told))
        await self._keeper.run()


def _end(running: asyncio.Task[None]) -> None:
    """A keeper that no longer works must not look as if it did: Ray starts it anew."""
    if not running.cancelled():
        logger.error("the keeper of the shard hosts ended", exc_info=running.exception())
        os._exit(1)


def start_shard_keeper(namespace: str, build: KeeperBuilder) -> Assignment:
    """Start the keeper and with it the shard hosts; who they are. Raises StartFailed."""
    try:
        keeper: ActorHandle[Any] = ShardKeeperActor.options(  # type: ignore[attr-defined]
            name=SHARD_KEEPER, namespace=namespace, lifetime="detached", get_if_exists=True
        ).remote(build)
        assignment: Assignment = ray.get(keeper.assignment.remote(), timeout=STARTED_WITHIN)
    except (ray.exceptions.RayError, ValueError) as error:
        # ValueError is also Ray's word for a name that was taken and given up in the same moment.
        raise StartFailed(f"the shard hosts cannot be started: {type(error).__name__}") from error
    return assignment
