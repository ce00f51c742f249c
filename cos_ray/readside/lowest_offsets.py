"""The lowest of many offsets that come and go."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

from cos_ray.domain.ids import Offset

_Key = TypeVar("_Key", bound=Hashable)

_SPARE = 64


class LowestOffsets(Generic[_Key]):
    """For each of some keys an offset that nobody may go beyond."""

    def __init__(self) -> None:
        self._of: dict[_Key, Offset] = {}
        # May hold what is not so any more; the number keeps keys of different kinds from being compared.
        self._heap: list[tuple[Offset, int, _Key]] = []
        self._puts = 0

    def __contains__(self, key: _Key) -> bool:
        return key in self._of

    def get(self, key: _Key) -> Offset | None:
        """The key's offset; None without one."""
        return self._of.get(key)

    def put(self, key: _Key, floor: Offset) -> None:
        """This is the key's offset from now on."""
        self._of[key] = floor
        self._puts += 1
        heapq.heappush(self._heap, (floor, self._puts, key))
        if len(self._heap) > 2 * len(self._of) + _SPARE:
            # The lowest may stay for days, and what is not so any more behind it.
            self._heap = [(low, number, key) for number, (key, low) in enumerate(self._of.items())]
            heapq.heapify(self._heap)

    def drop(self, key: _Key) -> None:
        """The key has none any more."""
        self._of.pop(key, None)

    def lowest(self) -> Offset | None:
        """The lowest of all; None if there is none."""
        while self._heap:
            floor, _, key = self._heap[0]
            if self._of.get(key) == floor:
                return floor
            heapq.heappop(self._heap)
        return None
