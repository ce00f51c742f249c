"""How often something may happen: so many times in a second, a second's worth at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Rate:
    """A bucket for each client; those not heard of for longest are forgotten first, and start full."""

    def __init__(self, per_second: float, clients: int = 10_000) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._clients = clients
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def takes(self, client: Hashable, now: float) -> bool:
        """Whether one more of this client is within bounds at this time (seconds); it then counts."""
        left, since = self._buckets.pop(client, (self._most, now))
        left = min(self._most, left + (now - since) * self._per_second)
        is_within = left >= 1.0
        self._buckets[client] = (left - 1.0 if is_within else left, now)
        if len(self._buckets) > self._clients:
            self._buckets.popitem(last=False)
        return is_within
