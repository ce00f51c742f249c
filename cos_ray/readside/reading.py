"""
Reads the journal for a read side: its shards further on, and again what of some entities was left there.

Each kind has positions of its own, so that neither holds up the other.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from cos_ray.domain.erasure import says_nothing
from cos_ray.domain.ids import EntityId, Revision, Shard
from cos_ray.ports import Clock
from cos_ray.readside.delivery import Delivery
from cos_ray.readside.management_commands import ManagementCommands
from cos_ray.readside.poller import Poller
from cos_ray.readside.projection import Projection
from cos_ray.readside.rereads import Rereads
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.readside.tasks import Tasks
from cos_ray.readside.window import Window


class Reading:
    """The reads of one read side."""

    def __init__(
        self,
        settings: ReadSideSettings,
        projections: OrderedDict[Shard, Projection],
        stores: Stores,
        delivery: Delivery,
        operations: ManagementCommands,
        poller: Poller,
        clock: Clock,
        finished: Callable[[], None],
    ) -> None:
        """`projections`: the one read longest ago comes first; `finished` is called after each read."""
        self._settings = settings
        self._projections = projections
        self._stores = stores
        self._delivery = delivery
        self._operations = operations
        self._poller = poller
        self._clock = clock
        self._reads = Tasks(finished)
        self._rereads = Tasks(finished)

    @property
    def tasks(self) -> tuple[Tasks, ...]:
        """The reads under way."""
        return self._reads, self._rereads

    def due_at(self) -> float:
        """When to read next. With all positions taken, the end of a read wakes who asks."""
        due = [math.inf]
        if len(self._reads) < self._settings.reads_at_once:
            due.extend(projection.reads_at() for projection in self._projections.values())
        if len(self._rereads) < self._settings.reads_at_once:
            due.extend(projection.rereads_at() for projection in self._projections.values())
        return min(due)

    def start_due(self, now: float) -> None:
        """Begin the reads that are due, as far as there are positions."""
        positions = self._settings.reads_at_once - len(self._reads)
        due = [projection for projection in self._projections.values() if projection.reads_at() <= now]
        for projection in due[:positions]:
            # To the end of the line: a busy shard must not starve the others.
            self._projections.move_to_end(projection.shard)
            self._reads.start(self._read(projection, projection.begin_read()))
        for projection in self._projections.values():
            while projection.rereads_at() <= now and len(self._rereads) < self._settings.reads_at_once:
                rereads, (entity_id, first, limit) = projection.rereads, projection.begin_reread()
                rereads.coming += limit
                self._rereads.start(self._reread(projection, rereads, entity_id, first, limit))

    async def _read(self, projection: Projection, window: Window) -> None:
        known, after = projection.newest_read, window.read_to
        try:
            events = await self._stores.source.after(projection.shard, after, self._settings.batch, known)
        except Exception as error:  # noqa: BLE001 - whatever it is, this shard is not given up
            self._operations.read_failed(projection, window, error)
            return
        if events:
            self._poller.has_news()
        deliverable = projection.take(window, events)
        for event in events:
            if says_nothing(event.envelope):
                self._delivery.redact(projection, event.envelope.meta.entity_id)
        for event in deliverable:
            self._delivery.offer(projection, event)

    async def _reread(
        self, projection: Projection, rereads: Rereads, entity_id: EntityId, first: Revision, limit: int
    ) -> None:
        began = self._clock.monotonic()
        try:
            events = await self._stores.positions.events_of(entity_id, first, limit)
        except Exception as error:  # noqa: BLE001 - whatever it is, this entity is not given up
            rereads.coming -= limit
            if rereads is projection.rereads:
                rereads.failed(entity_id, first, error)
            return
        rereads.coming -= limit
        if rereads is not projection.rereads:
            return  # it was opened elsewhere meanwhile
        projection.known.read(began, was_empty=not projection.window.entities())
        due = rereads.take(entity_id, first, events)
        if due is not None:
            self._delivery.offer(projection, due)
