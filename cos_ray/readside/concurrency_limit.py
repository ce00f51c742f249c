"""
How many deliveries may be under way at once: more while they are confirmed, fewer when they time out.

A handler that has less room than it is sent would otherwise spend its time on events that have
already been given up, and never catch up.
"""

from __future__ import annotations

BEGINNING = 64
"""With how many deliveries at once a read side begins."""

_STEP = 0.1
_REST = 1.0


class ConcurrencyLimit:
    """The bound, as it is at the moment."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(min(BEGINNING, most))
        self._slower_at = float("-inf")

    @property
    def limit(self) -> int:
        """How many may be under way; at least 1."""
        return int(self._limit)

    def confirmed(self) -> None:
        """A delivery was confirmed: there is room for more."""
        self._limit = min(self._most, self._limit + _STEP)

    def timed_out(self, now: float) -> None:
        """A delivery took too long: half as many, for those sent together tell the same story once."""
        if now >= self._slower_at:
            self._slower_at = now + _REST
            self._limit = max(1.0, self._limit / 2)
