"""One read side's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from cos_ray.cluster.names import read_side_actor_name
from cos_ray.domain.ids import ReadSideId, Shard
from cos_ray.readside.manager import Manager

ManagerBuilder = Callable[[], Manager]


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class ReadSideActor:
    """Hosts one read side; the behaviour is in `cos_ray.readside`."""

    def __init__(self, build: ManagerBuilder) -> None:
        self._manager = build()
        # Begun here and not by a call: after a restart Ray runs the constructor only.
        self._running = asyncio.get_running_loop().create_task(self._manager.run())

    async def poke(self, shards: Sequence[Shard]) -> None:
        """Look for new events in these shards now."""
        self._manager.poke(shards)

    async def stop(self) -> None:
        """Stop taking events, let those in progress end, save the offsets."""
        await self._manager.stop()


def start_read_side(namespace: str, read_side: ReadSideId, build: ManagerBuilder) -> ActorHandle[Any]:
    """Start the read side's actor, or find the one that runs."""
    handle: ActorHandle[Any] = ReadSideActor.options(  # type: ignore[attr-defined]
        name=read_side_actor_name(read_side),
        namespace=namespace,
        lifetime="detached",
        get_if_exists=True,
    ).remote(build)
    return handle
