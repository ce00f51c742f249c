"""
Deletes idempotency keys whose time is over, a few at a time, in the background.

Keys that have expired are ignored from that moment on, whether they have been deleted or not: so
this may be late, interrupted, or done by several processes at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.statements import statement

logger = logging.getLogger(__name__)

BATCH = 200
"""Keys deleted by one statement: a few milliseconds, in which nobody waits for more than its rows."""

LOOK_EVERY = timedelta(seconds=30)

_PAUSE = 0.05
"""Seconds between two batches."""


class KeyExpiry:
    """One background task."""

    def __init__(self, connections: Connections, batch: int = BATCH, every: timedelta = LOOK_EVERY) -> None:
        self._connections, self._batch, self._every = connections, batch, every.total_seconds()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="idempotency key expiry")

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def delete_some(self) -> int:
        """Delete one batch; how many keys that were. Raises JournalUnavailable."""
        return len(await self._connections.run(statement("delete_expired_keys"), {"limit": self._batch}))

    async def _run(self) -> None:
        while True:
            # Jitter, so that the nodes of a cluster do not look all at once.
            await asyncio.sleep(self._every * random.uniform(0.5, 1.5))
            try:
                await self._delete_all()
            except JournalUnavailable as error:
                logger.info("expired keys are deleted later", extra={"reason": str(error)})

    async def _delete_all(self) -> None:
        deleted = self._batch
        while deleted == self._batch:
            deleted = await self.delete_some()
            await asyncio.sleep(_PAUSE)
