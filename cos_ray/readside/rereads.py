"""
When to read again what of a shard's entities was left in the journal (see `window`), and what came of it.

Knows the time but never waits. Serves one window, and comes and goes with it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cos_ray.domain.errors import UnreadableEvent
from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import JournaledEvent
from cos_ray.ports import Clock
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.readside.window import EventMissing, Window

Report = Callable[[EntityId, Revision, Exception, float], None]
"""Hears whose events could not be read again, from which on, why, and in how many seconds it is tried."""


@dataclass(slots=True, eq=False)
class _Reread:
    """One entity's."""

    entity_id: EntityId
    failures: int = 0
    barrier: UnreadableEvent | EventMissing | None = None
    """What in the journal itself the last try ended at."""
    following: Revision | None = None
    """The event after a missing one; None: there is none."""


class Rereads:
    """The entities of one shard of which something has to be read again."""

    def __init__(self, window: Window, settings: ReadSideSettings, clock: Clock, report: Report) -> None:
        self._window, self._settings, self._clock, self._report = window, settings, clock, report
        self._of: dict[EntityId, _Reread] = {}
        self._due: list[tuple[float, int, _Reread]] = []
        self._tie_break = itertools.count()
        self.coming = 0
        """How many events the reads under way may bring."""

    def __len__(self) -> int:
        return len(self._of)

    def want(self, entity_id: EntityId) -> None:
        """The entity has come to its end here: what is left of it in the journal is due, if anything is."""
        if self._window.missing(entity_id) is not None and entity_id not in self._of:
            reread = self._of[entity_id] = _Reread(entity_id)
            self._put(reread, 0.0)

    def due_at(self) -> float:
        """When to read the next."""
        while self._due and self._of.get(self._due[0][2].entity_id) is not self._due[0][2]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def begin(self) -> tuple[EntityId, Revision]:
        """Whose events are read now, and from which on; `take` or `failed` is to follow."""
        entity_id = heapq.heappop(self._due)[2].entity_id
        return entity_id, self._window.missing(entity_id) or Revision(1)

    def take(
        self, entity_id: EntityId, first: Revision, events: Sequence[JournaledEvent]
    ) -> JournaledEvent | None:
        """Take in what the read brought; answer with what may be delivered at once."""
        if self._window.missing(entity_id) != first:
            # An operator wants it read from elsewhere on.
            self._want_anew(entity_id)
            return None
        try:
            due = self._window.take_back(entity_id, events)
        except EventMissing as gap:
            following = events[0].envelope.sequence_number if events else None
            self.failed(entity_id, first, gap, following)
            return None
        self._want_anew(entity_id)
        return due

    def failed(
        self, entity_id: EntityId, first: Revision, error: Exception, following: Revision | None = None
    ) -> None:
        """The read brought nothing but an error, or not the event that is due but one after it."""
        reread = self._of.get(entity_id)
        if reread is None or self._window.missing(entity_id) != first:
            self._want_anew(entity_id)
            return
        reread.failures += 1
        reread.barrier = error if isinstance(error, UnreadableEvent | EventMissing) else None
        reread.following = following
        settings = self._settings
        backoff = settings.journal_retry if reread.barrier is None else settings.gap_retry
        wait = backoff.wait(reread.failures).total_seconds()
        self._put(reread, wait)
        self._report(entity_id, first, error, wait)

    def skip(self) -> EntityId | None:
        """Step over what in the journal itself stops an entity; its id, or None if nothing does."""
        for reread in self._of.values():
            if reread.barrier is not None:
                break
        else:
            return None
        entity_id, following = reread.entity_id, reread.following
        if isinstance(reread.barrier, UnreadableEvent):
            following = Revision((self._window.missing(entity_id) or 0) + 1)
        self._window.step_over_left(entity_id, following)
        self._want_anew(entity_id)
        return entity_id

    def _want_anew(self, entity_id: EntityId) -> None:
        self._of.pop(entity_id, None)
        self.want(entity_id)

    def _put(self, reread: _Reread, wait: float) -> None:
        at = self._clock.monotonic() + wait
        heapq.heappush(self._due, (at, next(self._tie_break), reread))
