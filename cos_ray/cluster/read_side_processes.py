"""The way to the read sides' actors, for operators and for those who wait for an event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from cos_ray.cluster.names import read_side_actor_name
from cos_ray.domain.errors import CosError, ReadSideUnavailable
from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.read_sides import Obeyed, Order

logger = logging.getLogger(__name__)

_Key = tuple[ReadSideId, int]


class ReadSideActors:
    """`ReadSideProcesses` over Ray. Whoever does not answer in time is left out: no call hangs."""

    def __init__(self, namespace: str, actors: int) -> None:
        self._namespace = namespace
        self._numbers = range(actors)
        self._handles: dict[_Key, ActorHandle[Any]] = {}

    async def obey(self, read_side: ReadSideId, order: Order, timeout: float) -> Sequence[Obeyed]:
        """See `ReadSideProcesses.obey`."""
        answers = await asyncio.gather(
            *(self._call((read_side, number), timeout, "obey", order) for number in self._numbers)
        )
        for answer in answers:
            if isinstance(answer, CosError) and not isinstance(answer, ReadSideUnavailable):
                raise ReadSideUnavailable(f"read side {read_side}: {answer}") from answer
        return [answer for answer in answers if isinstance(answer, Obeyed)]

    async def handled(
        self, read_side: ReadSideId, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool:
        """See `ReadSideProcesses.handled`. Asks the shard's own process first."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        home = shard % len(self._numbers)
        while True:
            for number in (home, *(other for other in self._numbers if other != home)):
                left = until - loop.time()
                if left <= 0:
                    return False
                arguments = (shard, entity_id, revision, left)
                answer = await self._call((read_side, number), left, "handled", *arguments)
                if isinstance(answer, bool):
                    return answer
            # Nobody has it: its process is being started, or the shard handed over.
            await asyncio.sleep(min(0.1, max(0.0, until - loop.time())))

    async def _call(self, key: _Key, timeout: float, method: str, *arguments: object) -> Any:
        """The actor's answer; None if there is none."""
        try:
            return await asyncio.wait_for(self._ask(key, method, *arguments), timeout)
        except (RayError, ValueError, asyncio.TimeoutError) as error:
            self._handles.pop(key, None)
            facts = {"read_side": key[0], "number": key[1], "reason": type(error).__name__}
            logger.debug("read side does not answer", extra=facts)
            return None

    async def _ask(self, key: _Key, method: str, *arguments: object) -> Any:
        actor = self._handles.get(key)
        if actor is None:
            name = read_side_actor_name(*key)
            actor = await asyncio.to_thread(ray.get_actor, name, self._namespace)
            self._handles[key] = actor
        return await getattr(actor, method).remote(*arguments)
