"""
Who is next: one command at a time, in order of arrival, and not too many waiting.

This is all that serializes an entity. An async Ray actor interleaves its calls and promises
no order among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cos_ray.domain.errors import MailboxFull


class Mailbox:
    """Grants turns first come, first served."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._turn = asyncio.Lock()
        self._inside = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn and hold it. Raises MailboxFull at once if too many wait already."""
        if self._inside > self._capacity:
            raise MailboxFull
        self._inside += 1
        try:
            async with self._turn:
                yield
        finally:
            self._inside -= 1

    @property
    def waiting(self) -> int:
        """How many commands wait, the one in progress not counted."""
        return max(0, self._inside - 1)
