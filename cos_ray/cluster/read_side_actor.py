"""One read side's process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle

from cos_ray.cluster.names import read_side_actor_name
from cos_ray.domain.ids import ReadSideId, Shard


class RunningReadSide(Protocol):
    """A read side with all it holds open."""

    async def run(self) -> None:
        """Deliver until stopped."""
        ...

    async def stop(self) -> None:
        """Stop taking events, let those in progress end, save the offsets."""
        ...

    def poke(self, shards: Sequence[Shard]) -> None:
        """Look for new events in these shards now."""
        ...


ReadSideBuilder = Callable[[], Awaitable[RunningReadSide]]


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class ReadSideActor:
    """Hosts one read side; the behaviour is in `cos_ray.readside`."""

    def __init__(self, build: ReadSideBuilder) -> None:
        # Begun here and not by a call: after a restart Ray runs the constructor only.
        self._read_side: RunningReadSide | None = None
        self._running = asyncio.get_event_loop().create_task(self._run(build))

    async def _run(self, build: ReadSideBuilder) -> None:
        self._read_side = await build()
        await self._read_side.run()

    async def poke(self, shards: Sequence[Shard]) -> None:
        """Look for new events in these shards now."""
        if self._read_side is not None:
            self._read_side.poke(shards)

    async def stop(self) -> None:
        """Stop taking events, let those in progress end, save the offsets."""
        if self._read_side is not None:
            await self._read_side.stop()


def start_read_side(namespace: str, read_side: ReadSideId, build: ReadSideBuilder) -> ActorHandle[Any]:
    """Start the read side's actor, or find the one that runs."""
    handle: ActorHandle[Any] = ReadSideActor.options(  # type: ignore[attr-defined]
        name=read_side_actor_name(read_side),
        namespace=namespace,
        lifetime="detached",
        get_if_exists=True,
    ).remote(build)
    return handle
