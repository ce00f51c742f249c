"""
A read side: every event of its shards, to its handler, at least once, in order per entity.

One loop waits for whatever falls due first: a shard to be read, an event to be delivered
again, offsets to be saved, claims to be renewed. The work itself runs beside the loop, so nothing
slow holds up the rest. There is no transaction, lock or anything else held during a handler's call.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Collection, Iterable

from cos_ray.domain.errors import ClaimLost, JournalUnavailable, ReadSideUnavailable
from cos_ray.domain.ids import EntityId, Owner, ReleaseId, Revision, Shard
from cos_ray.domain.read_sides import Obeyed, Order, ShardState, ShardStatus
from cos_ray.ports import Clock, ReadHandler, ReadSideMeter, UnmeasuredReadSide
from cos_ray.readside.delivery import Delivery
from cos_ray.readside.erasures import Erasures
from cos_ray.readside.handled import Handled
from cos_ray.readside.management_commands import ManagementCommands
from cos_ray.readside.offset_keeper import OffsetKeeper
from cos_ray.readside.parking import Parking
from cos_ray.readside.poller import Poller
from cos_ray.readside.projection import Projection
from cos_ray.readside.reading import Reading
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.readside.shard_leases import ShardLeases, Who
from cos_ray.readside.skips import Skips
from cos_ray.readside.tasks import Tasks, within
from cos_ray.readside.window import Held

logger = logging.getLogger(__name__)

_UNMEASURED = UnmeasuredReadSide()


class ReadSide:
    """Runs once, in one process: from `run` to `stop`."""

    def __init__(
        self,
        settings: ReadSideSettings,
        shards: Iterable[Shard],
        home: Collection[Shard],
        owner: Owner,
        release: ReleaseId,
        stores: Stores,
        handler: ReadHandler,
        clock: Clock,
        meter: ReadSideMeter = _UNMEASURED,
    ) -> None:
        """
        `shards` are all of the read side, `home` those that are to be this process's.

        The others it takes when nobody looks after them.
        """
        self._settings = settings
        self._stores = stores
        self._clock = clock
        shards, held = list(shards), Held()
        self._projections = OrderedDict(
            (shard, Projection(shard, settings, clock, held, len(shards))) for shard in shards
        )
        """By shard; the one read longest ago comes first."""
        who = Who(owner, release, frozenset(home), frozenset(self._projections) - frozenset(home))
        self._claims = ShardLeases(settings, who, stores.controls, clock, self._lose)
        parking = Parking(settings.read_side, owner, stores.letters)
        skips = Skips(settings.read_side, owner, stores.letters)
        self._delivery = Delivery(
            settings, handler, parking, skips, clock, self._moved, self._may_begin, self._lose, meter
        )
        self._erasures = Erasures(
            settings, self._projections, stores.source, clock, self._delivery, self._wake
        )
        self._offsets = OffsetKeeper(settings, stores.offsets, owner, clock, self._lose)
        self._operations = ManagementCommands(
            settings,
            self._projections,
            self._delivery,
            self._offsets,
            parking,
            skips,
            stores,
            handler,
            clock,
            self._claims,
        )
        self._handled = Handled(
            settings.read_side,
            self._projections,
            stores,
            clock,
            lambda shard: self.notify([shard]),
            self._operations.is_borne_out,
        )
        self._poller = Poller(settings, stores.source, clock)
        self._reading = Reading(
            settings,
            self._projections,
            stores,
            self._delivery,
            self._operations,
            self._poller,
            clock,
            self._wake,
        )
        self._opening = Tasks(self._wake)
        self._saves = Tasks(self._wake)
        self._scouts = Tasks(self._wake)
        self._questions = Tasks(self._wake)
        self._renewals = Tasks(self._wake)
        self._orders = Tasks(self._wake)
        self._hand_overs = Tasks(self._wake)
        self._leaving: set[Shard] = set()
        """Shards that are being handed over."""
        self._news = asyncio.Event()
        self._rests_until = -math.inf
        self._has_begun = False
        self._is_open = False
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
                self._start_due()
                await self._rest()
            await self._drain()
        except Exception:
            await self._cancel()
            # Whoever comes next, this process's next run above all, is not to wait for them to expire.
            await within(self._clock, self._settings.drain, self._claims.let_go())
            raise
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

    def notify(self, shards: Iterable[Shard]) -> None:
        """Read these shards now, for something was appended; others' shards are ignored."""
        for shard in shards:
            projection = self._projections.get(shard)
            if projection is not None:
                projection.notify()
                self._look_again(projection.reads_at())

    async def obey(self, order: Order) -> Obeyed:
        """
        Do what an operator wants, in the shards this process has.

        Raises JournalUnavailable, and ReadSideUnavailable while its offsets are not loaded or it is
        being stopped. Once begun, an order is carried out whatever becomes of the one who waits.
        """
        if not self._is_open or self._is_stopping:
            raise ReadSideUnavailable(f"read side {self._settings.read_side} is being started or stopped")
        answer: asyncio.Future[Obeyed] = asyncio.get_running_loop().create_future()
        self._orders.start(self._obey(order, answer))
        return await answer

    async def _obey(self, order: Order, answer: asyncio.Future[Obeyed]) -> None:
        error: Exception = ReadSideUnavailable(f"read side {self._settings.read_side} was stopped meanwhile")
        obeyed = None
        try:
            obeyed = await self._operations.obey(order)
        except ClaimLost as failure:
            self._lose([failure.shard])
            error = failure
        except Exception as failure:  # noqa: BLE001 - it is the operator's to see
            error = failure
        finally:
            if answer.done():
                pass
            elif obeyed is None:
                answer.set_exception(error)
            else:
                answer.set_result(obeyed)

    async def handled(
        self, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float
    ) -> bool | None:
        """
        Whether this event is confirmed, now or within so many seconds; None: the shard is not ours.

        Raises JournalUnavailable.
        """
        if not self._is_open:
            return None
        return await self._handled.ask(shard, entity_id, revision, timeout)

    def status(self) -> tuple[ShardStatus, ...]:
        """How it fares in each shard."""
        return tuple(self._projections[shard].status() for shard in sorted(self._projections))

    async def _open(self) -> None:
        """Make the read side known, and begin to claim its shards."""
        settings = self._settings
        failures = 0
        while True:
            try:
                shards = sorted(self._projections)
                await self._stores.controls.introduce(settings.read_side, shards, settings.auto_start)
                break
            except Exception as error:
                failures += 1
                wait = settings.journal_retry.wait(failures).total_seconds()
                surprise = None if isinstance(error, JournalUnavailable) else error
                facts = {"read_side": settings.read_side, "reason": str(error), "retry_in": wait}
                logger.warning("read side cannot be made known", extra=facts, exc_info=surprise)
            await self._clock.sleep(wait)
        self._claims.begin()

    def _start_due(self) -> None:
        now = self._clock.monotonic()
        self._operations.interrupt(self._claims.lapse())
        self._reading.start_due(now)
        self._delivery.retry_due()
        if self._offsets.saves_at() <= now:
            self._saves.start(self._offsets.save(self._offsets.begin_save()))
        if self._poller.due_at(self._resting()) <= now:
            self._poller.begin()
            self._scouts.start(self._look_around())
        if self._erasures.due_at() <= now:
            self._erasures.begin()
            self._questions.start(self._erasures.ask())
        if self._claims.renews_at() <= now:
            self._claims.begin_renewal()
            self._renewals.start(self._renew())

    def _may_begin(self, projection: Projection) -> bool:
        return self._claims.may_begin(projection.shard) and self._erasures.let_begin(projection)

    def _resting(self) -> list[Projection]:
        return [projection for projection in self._projections.values() if projection.is_at_rest]

    async def _look_around(self) -> None:
        for projection in await self._poller.look(self._resting()):
            projection.notify()

    async def _renew(self) -> None:
        wanted = await self._claims.renew()
        if wanted is None:
            return
        for shard, projection in self._projections.items():
            if self._claims.term(shard) is None and projection.is_ours:
                projection.close(ShardState.ELSEWHERE)
        for shard in set(wanted) - self._leaving:
            self._leaving.add(shard)
            self._hand_overs.start(self._hand_over(shard))
        if not await self._operations.begin():
            self._claims.renew_soon()
        elif not self._is_open:
            self._is_open = True
            logger.info("read side started", extra={"read_side": self._settings.read_side})
        await self._operations.refresh()
        self._delivery.start()

    async def _hand_over(self, shard: Shard) -> None:
        """Somebody else is to have the shard."""
        facts = {"read_side": self._settings.read_side, "shard": shard}
        try:
            await self._operations.hand_over(shard)
            logger.info("shard handed over to another process of the read side", extra=facts)
        except ClaimLost:
            self._lose([shard])
        except JournalUnavailable as error:
            logger.info("shard not handed over yet", extra={**facts, "reason": str(error)})
            self._claims.renew_soon()
        finally:
            self._leaving.discard(shard)

    def _lose(self, shards: Collection[Shard]) -> None:
        """Another process has them: it begins where the offset is, so what is under way is too much."""
        for shard in shards:
            projection = self._projections[shard]
            projection.close(ShardState.ELSEWHERE)
            self._delivery.drop(projection)
        self._offsets.forget(shards)
        self._claims.forget(shards)
        if shards:
            facts = {"read_side": self._settings.read_side, "shards": sorted(shards)}
            logger.warning("another process of the read side has taken over shards", extra=facts)

    def _moved(self, projection: Projection) -> None:
        """A delivery is over: its shard may have room again, its event may be due again."""
        if projection.is_ours:
            self._offsets.note(projection.shard, projection.offset, projection.newest_read)
        due = (projection.reads_at(), projection.rereads_at(), self._offsets.saves_at())
        self._look_again(min(*due, self._delivery.retries_at()))

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
        due = [self._offsets.saves_at(), self._delivery.retries_at(), self._claims.renews_at()]
        due += [self._claims.lapses_at(), self._erasures.due_at()]
        due += [self._poller.due_at(self._resting()), self._reading.due_at()]
        return min(due)

    async def _drain(self) -> None:
        for projection in self._projections.values():
            projection.stop()
        self._delivery.close()
        for tasks in self._taking_in():
            await tasks.cancel()
        holding = asyncio.ensure_future(self._hold_on())
        facts = {"read_side": self._settings.read_side}
        drain = self._settings.drain
        try:
            if not await within(self._clock, drain, self._delivery.idle()):
                logger.warning("deliveries cut short; they will be repeated", extra=facts)
                await self._delivery.cancel()
            if not await within(self._clock, drain, self._save_all()):
                logger.warning("offsets not saved in time", extra=facts)
        finally:
            holding.cancel()
        self._raise_fault()
        logger.info("read side stopped", extra=facts)

    async def _hold_on(self) -> None:
        """Keep the claims while deliveries come to their end."""
        while True:
            now = self._clock.monotonic()
            self._operations.interrupt(self._claims.lapse())
            if self._claims.renews_at() <= now:
                self._claims.begin_renewal()
                self._renewals.start(self._keep())
            due = min(self._claims.renews_at(), self._claims.lapses_at(), now + 1.0)
            await self._clock.sleep(due - now)

    async def _keep(self) -> None:
        await self._claims.keep()

    async def _save_all(self) -> None:
        # One after the other: an older offset must not overwrite a newer one.
        await self._saves.idle()
        await self._offsets.save(self._offsets.begin_save())
        await self._claims.let_go()

    async def _cancel(self) -> None:
        for tasks in self._taking_in():
            await tasks.cancel()
        await self._delivery.cancel()
        await self._saves.cancel()

    def _raise_fault(self) -> None:
        for tasks in (*self._taking_in(), self._saves):
            tasks.raise_fault()
        self._delivery.raise_fault()

    def _taking_in(self) -> tuple[Tasks, ...]:
        """All that is not to go on once it is to stop."""
        regular = (self._opening, *self._reading.tasks, self._scouts, self._questions, self._renewals)
        return (*regular, self._orders, self._hand_overs)
