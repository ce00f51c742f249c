"""Events that were not confirmed, and when each is due again."""

from __future__ import annotations

import heapq
import itertools
import math

from cos_ray.readside.pending_delivery import PendingDelivery


class Retries:
    """Times are seconds of the clock."""

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
