"""
Asks for all shards at once whether anything new is stored, when no notify has said so.

One question for all of them, so that a read side without events costs next to nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence

from cos_ray.ports import Clock, EventSource
from cos_ray.readside.projection import Projection
from cos_ray.readside.settings import ReadSideSettings

logger = logging.getLogger(__name__)


class Poller:
    """When to ask, and whom the answer concerns."""

    def __init__(self, settings: ReadSideSettings, source: EventSource, clock: Clock) -> None:
        self._settings = settings
        self._source = source
        self._clock = clock
        self._interval = settings.poll
        self._asked_at = -math.inf
        self._is_out = False

    def due_at(self, resting: Collection[Projection]) -> float:
        """When to ask next; never while there is no shard at rest."""
        if self._is_out or not resting:
            return math.inf
        return self._asked_at + self._interval.total_seconds()

    def has_news(self) -> None:
        """There are events: ask often."""
        self._interval = self._settings.poll

    def begin(self) -> None:
        """A question begins; `look` is to follow."""
        self._is_out = True

    async def look(self, resting: Sequence[Projection]) -> list[Projection]:
        """Those of the shards at rest that are to be read now."""
        offsets = {projection.shard: projection.window.read_to for projection in resting}
        newest = {projection.shard: projection.newest_read for projection in resting}
        known = {shard: row for shard, row in newest.items() if row is not None}
        try:
            stirring = await self._source.stirring(offsets, known)
        except Exception:
            # Each shard finds out for itself, and says so.
            logger.debug("the journal cannot be asked for news", exc_info=True)
            return list(resting)
        finally:
            self._is_out = False
            self._asked_at = self._clock.monotonic()
        if stirring:
            self.has_news()
        else:
            self._interval = min(self._interval * 2, self._settings.idle_poll)
        return [projection for projection in resting if projection.shard in stirring]
