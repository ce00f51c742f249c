"""The coordinator of the shard hosts, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from typing import Any

import ray
from ray.actor import ActorHandle

from cos_ray.cluster.names import SHARD_COORDINATOR
from cos_ray.domain.errors import StartFailed
from cos_ray.domain.shard_assignment import Assignment
from cos_ray.placement.shard_coordinator import ShardCoordinator
from cos_ray.ray_internals import key_value

logger = logging.getLogger(__name__)

CoordinatorBuilder = Callable[[], ShardCoordinator]

STARTED_WITHIN = 60.0
"""Seconds that the coordinator may take to have all shard hosts started."""

_SEATS = b"cos_ray_seats"
"""Ray's table of what operators last told each coordinator, by its actor's id; a new one begins anew."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class ShardCoordinatorActor:
    """Hosts the `ShardCoordinator`; the behaviour is in `cos_ray.placement.shard_coordinator`."""

    def __init__(self, build: CoordinatorBuilder) -> None:
        self._coordinator = build()
        self._id: bytes = ray.get_runtime_context().get_actor_id().encode()
        # Begun here and not by a call: after a restart Ray runs the constructor only.
        self._running = asyncio.get_running_loop().create_task(self._run())
        self._running.add_done_callback(_end)

    async def assignment(self) -> Assignment:
        """The newest, as soon as there is one."""
        return await self._coordinator.assignment()

    async def resize(self, seats: int | None) -> Assignment:
        """Have so many hosts from now on, also after a restart; None: as many as suit the cluster."""
        told = json.dumps(seats).encode()
        await asyncio.to_thread(key_value.put, _SEATS, self._id, told)
        return await self._coordinator.resize(seats)

    async def _run(self) -> None:
        told = await asyncio.to_thread(key_value.get, _SEATS, self._id)
        if told is not None:
            self._coordinator.begin_with(json.loads(told))
        await self._coordinator.run()


def _end(running: asyncio.Task[None]) -> None:
    """A coordinator that no longer works must not look as if it did: Ray starts it anew."""
    if not running.cancelled():
        logger.error("the coordinator of the shard hosts ended", exc_info=running.exception())
        os._exit(1)


def start_shard_coordinator(namespace: str, build: CoordinatorBuilder) -> Assignment:
    """Start the coordinator and with it the shard hosts; who they are. Raises StartFailed."""
    try:
        coordinator: ActorHandle[Any] = ShardCoordinatorActor.options(  # type: ignore[attr-defined]
            name=SHARD_COORDINATOR, namespace=namespace, lifetime="detached", get_if_exists=True
        ).remote(build)
        assignment: Assignment = ray.get(coordinator.assignment.remote(), timeout=STARTED_WITHIN)
    except (ray.exceptions.RayError, ValueError) as error:
        # ValueError is also Ray's word for a name that was taken and given up in the same moment.
        raise StartFailed(f"the shard hosts cannot be started: {type(error).__name__}") from error
    return assignment
