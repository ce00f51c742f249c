"""One process of a read side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from cos_ray.cluster.names import read_side_actor_name
from cos_ray.domain.errors import CosError, StartFailed
from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.read_sides import Obeyed, Order
from cos_ray.readside.supervisor import ReadSideSupervisor

ManagerBuilder = Callable[[], ReadSideSupervisor]


# Many may wait for an event at once, and must not keep an operator's order from getting through.
@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=20_000)
class ReadSideActor:
    """Hosts one read side's share of shards; the behaviour is in `cos_ray.readside`."""

    def __init__(self, build: ManagerBuilder) -> None:
        self._supervisor = build()
        # Begun here and not by a call: after a restart Ray runs the constructor only.
        self._running = asyncio.get_running_loop().create_task(self._supervisor.run())

    async def notify(self, shards: Sequence[Shard]) -> None:
        """Look for new events in these shards now."""
        self._supervisor.notify(shards)

    async def obey(self, order: Order) -> Obeyed | CosError:
        """Do what an operator wants; errors travel as values, for Ray would dress them up."""
        try:
            return await self._supervisor.obey(order)
        except CosError as error:
            return error

    async def handled(
        self, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool | None:
        """Whether this event is confirmed; None: the shard is not ours, or nobody knows."""
        try:
            return await self._supervisor.handled(shard, entity_id, revision, timeout)
        except CosError:
            return None

    async def stop(self) -> None:
        """Stop taking events, let those in progress end, save the offsets."""
        await self._supervisor.stop()


def start_read_side(
    namespace: str, read_side: ReadSideId, build: ManagerBuilder, number: int = 0
) -> ActorHandle[Any]:
    """Start one of the read side's actors, or find the one that runs. Raises StartFailed."""
    name = read_side_actor_name(read_side, number)
    try:
        handle: ActorHandle[Any] = ReadSideActor.options(  # type: ignore[attr-defined]
            name=name, namespace=namespace, lifetime="detached", get_if_exists=True
        ).remote(build)
    except ValueError as error:
        # Ray's word for a name that was taken and given up in the same moment.
        raise StartFailed(f"{name} cannot be started: {error}") from error
    return handle
