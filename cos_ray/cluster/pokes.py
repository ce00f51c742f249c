"""
Tells the read sides' actors that there is something new.

A poke that gets lost costs a quarter of a second, for read sides also look by themselves. So
nothing here waits for an answer, and nothing is tried twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from cos_ray.cluster.names import read_side_actor_name
from cos_ray.domain.ids import ReadSideId, Shard

logger = logging.getLogger(__name__)

DEBOUNCE = 0.005
"""Seconds between two pokes of one process: a call per append would cost more than the appends."""

LOOK_AGAIN = 5.0
"""Seconds after which an actor that could not be found is looked for again."""


class ReadSidePokes:
    """A `ports.Publisher` over the read sides' actors."""

    def __init__(self, namespace: str, read_sides: Sequence[ReadSideId]) -> None:
        self._namespace = namespace
        self._read_sides = read_sides
        self._actors: dict[ReadSideId, ActorHandle[Any]] = {}
        self._looked_at = float("-inf")
        self._shards: set[Shard] = set()
        self._poking: asyncio.Task[None] | None = None

    def appended(self, shards: Sequence[Shard]) -> None:
        """Events were stored in these shards."""
        if not self._read_sides:
            return
        self._shards.update(shards)
        if self._poking is None or self._poking.done():
            self._poking = asyncio.get_running_loop().create_task(self._poke())

    async def _poke(self) -> None:
        while self._shards:
            shards, self._shards = sorted(self._shards), set()
            await self._look_for_missing()
            for read_side, actor in list(self._actors.items()):
                self._watch(read_side, actor.poke.remote(shards))
            await asyncio.sleep(DEBOUNCE)

    async def _look_for_missing(self) -> None:
        now = asyncio.get_running_loop().time()
        missing = [read_side for read_side in self._read_sides if read_side not in self._actors]
        if missing and now - self._looked_at >= LOOK_AGAIN:
            self._looked_at = now
            self._actors.update(await asyncio.to_thread(self._found, missing))

    def _found(self, read_sides: Sequence[ReadSideId]) -> dict[ReadSideId, ActorHandle[Any]]:
        found = {}
        for read_side in read_sides:
            try:
                found[read_side] = ray.get_actor(read_side_actor_name(read_side), namespace=self._namespace)
            except ValueError:
                logger.debug("read side is not there to be poked", extra={"read_side": read_side})
        return found

    def _watch(self, read_side: ReadSideId, call: Any) -> None:
        def forget_if_gone(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and isinstance(done.exception(), RayError):
                self._actors.pop(read_side, None)

        asyncio.wrap_future(call.future()).add_done_callback(forget_if_gone)
