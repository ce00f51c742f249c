"""Events on their way to the read handler, and when those that were not confirmed are due again."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from dataclasses import dataclass

from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.readside.projection import Projection


class Retries:
    """Events that were not confirmed, by when each is due again. Times are seconds of the clock."""

    def __init__(self) -> None:
        self._held_back: list[tuple[float, int, PendingDelivery]] = []
        self._tie_break = itertools.count()

    def add(self, due: float, pending: PendingDelivery) -> None:
        """Due again then."""
        heapq.heappush(self._held_back, (due, next(self._tie_break), pending))

    def due_at(self) -> float:
        """When the next is due."""
        return self._held_back[0][0] if self._held_back else math.inf

    def take(self) -> PendingDelivery:
        """The next one."""
        return heapq.heappop(self._held_back)[2]


@dataclass(slots=True, eq=False)
class PendingDelivery:
    """An event on its way, whose predecessors of the same entity are all settled."""

    projection: Projection
    event: JournaledEvent
    failures: int = 0
    is_stuck: bool = False
    """Whether it was tried and not confirmed."""
    is_single: bool = False
    """Whether it is delivered alone, for a call with others has failed."""
    task: asyncio.Task[None] | None = None
    """The delivery that is under way."""

    @property
    def shard(self) -> Shard:
        """Where it lies."""
        return self.projection.shard

    @property
    def entity_id(self) -> EntityId:
        """Whose event it is."""
        return self.event.envelope.meta.entity_id

    def again(self) -> PendingDelivery:
        """The same, not yet under way: what becomes of this one does not count any more."""
        return PendingDelivery(self.projection, self.event, self.failures, self.is_stuck, self.is_single)
