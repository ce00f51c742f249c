"""
How long something may take: `asyncio.timeout`, on every Python that this runs on, and a command's deadline.

Not `asyncio.wait_for`, which until Python 3.12 runs what it waits for in a task of its own: that
costs as much as the rest of a command's way through its entity.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

from cos_ray.domain.errors import OutOfTime
from cos_ray.ports import Clock

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:
    from async_timeout import timeout as time_limit

__all__ = ["Deadline", "time_limit"]

_Answer = TypeVar("_Answer")


class Deadline:
    """By when a command is to be answered."""

    __slots__ = ("_at", "_clock")

    def __init__(self, clock: Clock, at: float) -> None:
        """`at`: by the clock's `monotonic`."""
        self._clock = clock
        self._at = at

    def left(self) -> float:
        """Seconds until then. Raises OutOfTime when none are left for another call."""
        left = self._at - self._clock.monotonic()
        if left <= 0:
            raise OutOfTime
        return left

    async def wait_for(self, question: Awaitable[_Answer]) -> _Answer:
        """The answer to a question that costs nothing to give up. Raises OutOfTime."""
        try:
            async with time_limit(max(0.0, self._at - self._clock.monotonic())):
                return await question
        except asyncio.TimeoutError:
            raise OutOfTime from None
