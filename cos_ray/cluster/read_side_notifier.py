"""
Tells the read sides' actors that there is something new.

A notify that gets lost costs a quarter of a second, for read sides also look by themselves. So
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
"""Seconds between two notifier of one process: a call per append would cost more than the appends."""

LOOK_AGAIN = 5.0
"""Seconds after which an actor that could not be found is looked for again."""

_Key = tuple[ReadSideId, int]
"""One of a read side's actors."""


class ReadSideNotifier:
    """A `ports.Publisher` over the read sides' actors."""

    def __init__(self, namespace: str, read_sides: Sequence[ReadSideId], actors: int = 1) -> None:
        """`actors`: how many share the shards of each read side, shard by shard in turn."""
        self._namespace = namespace
        self._read_sides = [(read_side, number) for read_side in read_sides for number in range(actors)]
        self._count = actors
        self._actors: dict[_Key, ActorHandle[Any]] = {}
        self._looked_at = float("-inf")
        self._shards: set[Shard] = set()
        self._unanswered: dict[_Key, set[Shard]] = {}
        """Those that have not answered yet, and what they are told next: who hangs gets no more calls."""
        self._poking: asyncio.Task[None] | None = None

    def appended(self, shards: Sequence[Shard]) -> None:
        """Events were stored in these shards."""
        if not self._read_sides:
            return
        self._shards.update(shards)
        if self._poking is None or self._poking.done():
            self._poking = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        while self._shards:
            shards, self._shards = sorted(self._shards), set()
            await self._look_for_missing()
            for key, actor in list(self._actors.items()):
                # One that looks after another's shards for a while finds new events by itself.
                if theirs := {shard for shard in shards if shard % self._count == key[1]}:
                    self._tell(key, actor, theirs)
            await asyncio.sleep(DEBOUNCE)

    async def _look_for_missing(self) -> None:
        now = asyncio.get_running_loop().time()
        missing = [key for key in self._read_sides if key not in self._actors]
        if missing and now - self._looked_at >= LOOK_AGAIN:
            self._looked_at = now
            self._actors.update(await asyncio.to_thread(self._found, missing))

    def _found(self, keys: Sequence[_Key]) -> dict[_Key, ActorHandle[Any]]:
        found = {}
        for key in keys:
            try:
                found[key] = ray.get_actor(read_side_actor_name(*key), namespace=self._namespace)
            except ValueError:
                logger.debug("read side is not there to be notified", extra={"read_side": key[0]})
        return found

    def _tell(self, key: _Key, actor: ActorHandle[Any], shards: set[Shard]) -> None:
        if key in self._unanswered:
            self._unanswered[key] |= shards
            return
        self._unanswered[key] = set()
        call = asyncio.wrap_future(actor.notify.remote(sorted(shards)).future())
        call.add_done_callback(lambda done: self._answered(key, actor, done))

    def _answered(self, key: _Key, actor: ActorHandle[Any], call: asyncio.Future[None]) -> None:
        shards = self._unanswered.pop(key)
        if not call.cancelled() and isinstance(call.exception(), RayError):
            self._actors.pop(key, None)
        elif shards:
            self._tell(key, actor, shards)
