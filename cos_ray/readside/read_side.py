"""
A read side: every event of its shards, to its handler, at least once, in order per entity.

One loop waits for whatever falls due first: a shard to be read, an event to be delivered
again, offsets to be saved. The work itself runs beside the loop, so nothing slow holds up the
rest. There is no transaction, lock or anything else held during a handler's call.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Mapping

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Offset, Shard
from cos_ray.ports import Clock, EventSource, OffsetStore, ReadHandler
from cos_ray.readside.delivery import Delivery
from cos_ray.readside.offset_keeper import OffsetKeeper
from cos_ray.readside.projection import Projection
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.readside.status import ReadSideStatus
from cos_ray.readside.tasks import Tasks

logger = logging.getLogger(__name__)


class ReadSide:
    """Runs once: from `run` to `stop`."""

    def __init__(
        self,
        settings: ReadSideSettings,
        shards: Iterable[Shard],
        source: EventSource,
        offsets: OffsetStore,
        handler: ReadHandler,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._source = source
        self._clock = clock
        self._projections = OrderedDict((shard, Projection(shard, settings, clock)) for shard in shards)
        """By shard; the one read longest ago comes first."""
        self._delivery = Delivery(settings, handler, clock, self._moved)
        self._offsets = OffsetKeeper(settings, offsets, clock)
        self._opening = Tasks(self._wake)
        self._reads = Tasks(self._wake)
        self._saves = Tasks(self._wake)
        self._news = asyncio.Event()
        self._rests_until = -math.inf
        self._has_begun = False
        self._is_stopping = False
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Deliver until stopped. Raises only what nothing here foresees."""
        if self._has_begun:
            raise RuntimeError("a ReadSide runs once")
        self._has_begun = True
        try:
            self._opening.start(self._open())
            while not self._is_stopping:
                self._raise_fault()
                self._start_reads()
                self._delivery.retry_due()
                self._start_save()
                await self._rest()
            await self._drain()
        finally:
            await self._cancel()
            self._over.set()

    async def stop(self) -> None:
        """
        End `run`: take nothing more in, give deliveries under way their time, save the offsets.

        Returns when it is over, within twice `settings.drain`.
        """
        self._is_stopping = True
        self._wake()
        if self._has_begun:
            await self._over.wait()

    def poke(self, shards: Iterable[Shard]) -> None:
        """Read these shards now, for something was appended; others' shards are ignored."""
        for shard in shards:
            projection = self._projections.get(shard)
            if projection is not None:
                projection.poke()
                self._look_again(projection.reads_at())

    def status(self) -> ReadSideStatus:
        """How it fares in each shard."""
        shards = tuple(self._projections[shard].status() for shard in sorted(self._projections))
        return ReadSideStatus(self._settings.read_side, shards)

    async def _open(self) -> None:
        """Let the shards begin where whoever ran before has left off."""
        offsets = await self._load_offsets()
        for shard, projection in self._projections.items():
            projection.open(offsets.get(shard, Offset(0)))
        logger.info("read side started", extra={"read_side": self._settings.read_side})

    async def _load_offsets(self) -> Mapping[Shard, Offset]:
        failures = 0
        while True:
            try:
                return await self._offsets.load()
            except Exception as error:
                failures += 1
                wait = self._settings.journal_retry.wait(failures).total_seconds()
                surprise = None if isinstance(error, JournalUnavailable) else error
                facts = {"read_side": self._settings.read_side, "reason": str(error), "retry_in": wait}
                logger.warning("read side cannot load its offsets", extra=facts, exc_info=surprise)
            await self._clock.sleep(wait)

    def _start_reads(self) -> None:
        now = self._clock.monotonic()
        places = self._settings.reads_at_once - len(self._reads)
        due = [projection for projection in self._projections.values() if projection.reads_at() <= now]
        for projection in due[:places]:
            # To the end of the line: a busy shard must not starve the others.
            self._projections.move_to_end(projection.shard)
            self._reads.start(self._read(projection, projection.begin_read()))

    async def _read(self, projection: Projection, after: Offset) -> None:
        try:
            events = await self._source.after(projection.shard, after, self._settings.batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, this shard is not given up
            projection.read_failed(error)
            return
        for event in projection.take(events):
            self._delivery.offer(projection, event)

    def _start_save(self) -> None:
        if self._offsets.saves_at() <= self._clock.monotonic():
            self._saves.start(self._offsets.save(self._offsets.begin_save()))

    def _moved(self, projection: Projection) -> None:
        """A delivery is over: its shard may have room again, its event may be due again."""
        self._offsets.note(projection.shard, projection.offset)
        due = (projection.reads_at(), self._offsets.saves_at(), self._delivery.retries_at())
        self._look_again(min(due))

    def _look_again(self, due: float) -> None:
        """Something falls due at that time: make sure the loop does not sleep through it."""
        if due < self._rests_until:
            self._wake()

    def _wake(self) -> None:
        self._news.set()

    async def _rest(self) -> None:
        """Wait until something is due or has happened."""
        self._rests_until = self._due()
        seconds = self._rests_until - self._clock.monotonic()
        alarm = asyncio.create_task(self._ring_after(seconds)) if seconds < math.inf else None
        try:
            await self._news.wait()
        finally:
            self._news.clear()
            if alarm is not None:
                alarm.cancel()

    async def _ring_after(self, seconds: float) -> None:
        if seconds > 0:
            await self._clock.sleep(seconds)
        self._wake()

    def _due(self) -> float:
        """When the next thing falls due."""
        due = [self._offsets.saves_at(), self._delivery.retries_at()]
        # With all places for reads taken, the end of one of them wakes the loop.
        if len(self._reads) < self._settings.reads_at_once:
            due.extend(projection.reads_at() for projection in self._projections.values())
        return min(due)

    async def _drain(self) -> None:
        for projection in self._projections.values():
            projection.stop()
        self._delivery.close()
        await self._opening.cancel()
        await self._reads.cancel()
        if not await self._within_drain_time(self._delivery.idle()):
            logger.warning(
                "deliveries cut short; they will be repeated", extra={"read_side": self._settings.read_side}
            )
            await self._delivery.cancel()
        if not await self._within_drain_time(self._save_all()):
            logger.warning("offsets not saved in time", extra={"read_side": self._settings.read_side})
        self._raise_fault()
        logger.info("read side stopped", extra={"read_side": self._settings.read_side})

    async def _save_all(self) -> None:
        # One after the other: an older offset must not overwrite a newer one.
        await self._saves.idle()
        await self._offsets.save(self._offsets.begin_save())

    async def _within_drain_time(self, work: Awaitable[None]) -> bool:
        """Whether this was done in the time that stopping may take; if not, it is cancelled."""
        task = asyncio.ensure_future(work)
        alarm = asyncio.ensure_future(self._clock.sleep(self._settings.drain.total_seconds()))
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return False
            task.result()
            return True
        finally:
            task.cancel()
            alarm.cancel()

    async def _cancel(self) -> None:
        await self._opening.cancel()
        await self._reads.cancel()
        await self._delivery.cancel()
        await self._saves.cancel()

    def _raise_fault(self) -> None:
        for tasks in (self._opening, self._reads, self._saves):
            tasks.raise_fault()
        self._delivery.raise_fault()
