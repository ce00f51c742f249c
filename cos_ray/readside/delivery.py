"""
Hands events to the read handler: many entities at once, one event of each at a time.

An event that is not confirmed holds back its own entity and nobody else, and takes no place among
the deliveries while it waits; what becomes of it in the end is the policy's to say. A handler that
takes many events in one call is given what is due, entities in their order; when it does not
confirm them all, they are delivered one by one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

from cos_ray.domain.erasure import redacted_event
from cos_ray.domain.errors import ClaimLost, Code, DeliveryFailed, EntityIsErased
from cos_ray.domain.failure_policy import LastResort
from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.texts import said_by
from cos_ray.ports import BatchReadHandler, Clock, ReadHandler, ReadSideMeter, UnmeasuredReadSide
from cos_ray.readside.concurrency_limit import ConcurrencyLimit
from cos_ray.readside.measuring import measure
from cos_ray.readside.parking import Parking
from cos_ray.readside.pending_delivery import PendingDelivery, Retries
from cos_ray.readside.projection import Projection, Settled
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.readside.skips import Skips
from cos_ray.readside.tasks import Tasks
from cos_ray.readside.window import size_of

logger = logging.getLogger(__name__)

_UNMEASURED = UnmeasuredReadSide()


class Delivery:
    """The deliveries of one read side."""

    def __init__(
        self,
        settings: ReadSideSettings,
        handler: ReadHandler,
        parking: Parking,
        skips: Skips,
        clock: Clock,
        moved: Callable[[Projection], None],
        may_begin: Callable[[Projection], bool],
        lost: Callable[[Collection[Shard]], None],
        meter: ReadSideMeter = _UNMEASURED,
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._many = handler if isinstance(handler, BatchReadHandler) else None
        self._parking = parking
        self._skips = skips
        self._clock = clock
        self._moved = moved
        """Called after each delivery, confirmed or not."""
        self._may_begin = may_begin
        """Whether what waits in a shard may be handed out now; else `release` is to follow."""
        self._lost = lost
        """Called with shards that turn out to be others'."""
        self._meter = meter
        self._current: dict[Shard, dict[EntityId, PendingDelivery]] = defaultdict(dict)
        """The pending of each entity that has any; one that is not here is stale, wherever it turns up."""
        self._ready: deque[PendingDelivery] = deque()
        self._waiting: dict[Shard, list[PendingDelivery]] = defaultdict(list)
        """Those that are due in shards that do not deliver, or not now."""
        self._retries = Retries()
        self._held: set[tuple[Shard, EntityId]] = set()
        """Entities whose events wait until their earlier ones have been put before them."""
        self._running = Tasks(self.start)
        self._pace = ConcurrencyLimit(settings.concurrency)
        self._is_closed = False

    def offer(self, projection: Projection, event: JournaledEvent) -> None:
        """Deliver this event as soon as there is a place. It must be its entity's next."""
        # As it waits there: it may be redacted by now.
        self._add(projection, projection.window.head(event.envelope.meta.entity_id) or event)
        self.start()

    def retries_at(self) -> float:
        """When the next event that was not confirmed is due again."""
        return self._retries.due_at()

    def retry_due(self) -> None:
        """Deliver again what has waited long enough."""
        while self.retries_at() <= self._clock.monotonic():
            self._ready.append(self._retries.take())
        self.start()

    def release(self, projection: Projection, *, anew: bool) -> None:
        """Deliver what waited for the shard to go on; `anew`: with all retries before it again."""
        for pending in self._waiting.pop(projection.shard, ()):
            if anew:
                pending.failures = 0
            self._ready.append(pending)
        self.start()

    def take_stuck(self, projection: Projection) -> PendingDelivery | None:
        """
        The shard's first event that is not confirmed though tried, if there is one.

        A try under way is cut short, and none begins: `skip` or `put_back` is to follow.
        """
        stuck = [pending for pending in self._current[projection.shard].values() if pending.is_stuck]
        if not stuck:
            return None
        pending = min(stuck, key=lambda pending: pending.event.offset)
        if pending.task is not None:
            self._running.give_up(pending.task)
        again = self._current[projection.shard][pending.entity_id] = pending.again()
        return again

    def put_back(self, pending: PendingDelivery) -> None:
        """Try it again."""
        self._ready.append(pending)
        self.start()

    def skip(self, pending: PendingDelivery) -> bool:
        """Step over it; False if it is not its turn any more."""
        if self._is_stale(pending):
            return False
        self._settle(pending, [pending.event], Settled.SKIPPED)
        self.start()
        return True

    async def empty(self, projection: Projection, within: timedelta) -> None:
        """Have nothing of the shard any more: let deliveries under way end, or cut them short."""
        pending = self._current[projection.shard].values()
        tasks = [pending.task for pending in pending if pending.task is not None]
        if tasks and within > timedelta(0):
            alarm = asyncio.ensure_future(self._clock.sleep(within.total_seconds()))
            ended = asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.wait((ended, alarm), return_when=asyncio.FIRST_COMPLETED)
            alarm.cancel()
        self.drop(projection)

    def drop(self, projection: Projection) -> None:
        """Have nothing of the shard any more, at once."""
        for pending in self._current.pop(projection.shard, {}).values():
            if pending.task is not None:
                self._running.give_up(pending.task)
        self._waiting.pop(projection.shard, None)

    def redact(self, projection: Projection, entity_id: EntityId) -> None:
        """
        The entity is erased: what waits of it says nothing any more, and is tried anew.

        A delivery under way goes on; what becomes of it, unless it is confirmed, does not count.
        """
        projection.window.redact(entity_id)
        pending = self._current[projection.shard].get(entity_id)
        if pending is not None and pending.event is not (event := redacted_event(pending.event)):
            head = projection.window.head(entity_id)
            pending.event = head if head is not None and head.offset == event.offset else event
            pending.failures, pending.is_stuck = 0, False

    def interrupt(self, projection: Projection) -> None:
        """Cut short what is under way in the shard; it is delivered again as soon as that may be."""
        current = self._current[projection.shard]
        for entity_id, pending in list(current.items()):
            if pending.task is None:
                continue
            self._running.give_up(pending.task)
            current[entity_id] = pending.again()
            self._ready.append(current[entity_id])
        self.start()

    def has(self, projection: Projection, entity_id: EntityId) -> bool:
        """Whether an event of this entity is on its way."""
        return entity_id in self._current[projection.shard]

    async def hold(self, projection: Projection, entity_id: EntityId) -> None:
        """Begin no delivery of the entity until `go_on`; return when none is under way."""
        self._held.add((projection.shard, entity_id))
        pending = self._current[projection.shard].get(entity_id)
        if pending is not None and pending.task is not None:
            await asyncio.wait({pending.task})

    def go_on(self, projection: Projection, entity_id: EntityId) -> None:
        """Deliver the entity's events again, beginning with what is now the first."""
        self._held.discard((projection.shard, entity_id))
        head = projection.window.head(entity_id)
        pending = self._current[projection.shard].get(entity_id)
        if pending is not None and pending.event is not head:
            del self._current[projection.shard][entity_id]
            pending = None
        if head is not None and pending is None:
            self._add(projection, head)
        self.release(projection, anew=False)

    def close(self) -> None:
        """Begin no further delivery; those under way go on."""
        self._is_closed = True

    async def idle(self) -> None:
        """Return when no delivery is under way."""
        await self._running.idle()

    async def cancel(self) -> None:
        """Cut short the deliveries under way; what becomes of them stays unknown."""
        self._is_closed = True
        await self._running.cancel()

    def raise_fault(self) -> None:
        """Raise what should never have been raised in a delivery."""
        self._running.raise_fault()

    def start(self) -> None:
        """Begin what may begin."""
        while self._ready and self._has_place and not self._is_closed:
            pending = self._next()
            if pending is None:
                return
            if self._many is None or self._goes_alone(pending):
                pending.task = self._running.start(self._deliver(pending), size_of(pending.event))
            else:
                self._start_many(pending, self._many)

    @property
    def _has_place(self) -> bool:
        is_light = self._running.weight < self._settings.concurrent_octets
        return len(self._running) < self._pace.limit and (is_light or not len(self._running))

    def _next(self) -> PendingDelivery | None:
        """The next pending that may be delivered; those that may not yet wait elsewhere."""
        while self._ready:
            pending = self._ready.popleft()
            if self._is_stale(pending):
                continue
            is_held = (pending.shard, pending.entity_id) in self._held
            if pending.projection.may_deliver and not is_held and self._may_begin(pending.projection):
                return pending
            self._waiting[pending.shard].append(pending)
        return None

    def _goes_alone(self, pending: PendingDelivery) -> bool:
        return pending.is_single or self._parking.holds(pending.shard, pending.entity_id)

    def _start_many(self, pending: PendingDelivery, handler: BatchReadHandler) -> None:
        bundle: list[tuple[PendingDelivery, list[JournaledEvent]]] = []
        alone: list[PendingDelivery] = []
        room, octets = handler.batch, self._settings.batch_octets
        following: PendingDelivery | None = pending
        while following is not None:
            if self._goes_alone(following):
                alone.append(following)
            else:
                events = following.projection.window.first(following.entity_id, room, octets)
                bundle.append((following, events))
                room -= len(events)
                octets -= sum(map(size_of, events))
            following = self._next() if room > 0 and octets > 0 else None
        self._ready.extendleft(reversed(alone))
        weight = self._settings.batch_octets - octets
        task = self._running.start(self._deliver_many(bundle, handler), weight)
        for each, _ in bundle:
            each.task = task

    async def _deliver_many(
        self, bundle: list[tuple[PendingDelivery, list[JournaledEvent]]], handler: BatchReadHandler
    ) -> None:
        events = [(pending.shard, event.envelope) for pending, events in bundle for event in events]
        confirmed = False
        begun = self._clock.monotonic()
        try:
            await handler.handle_many(self._settings.read_side, events)
            confirmed = True
            self._meter.handled(self._clock.monotonic() - begun)
        except asyncio.CancelledError:
            if self._is_closed or all(self._is_stale(pending) for pending, _ in bundle):
                raise
        except Exception as error:  # noqa: BLE001 - which of them is at fault, each alone will show
            facts = {"read_side": self._settings.read_side, "events": len(events), "reason": str(error)}
            logger.info("events not confirmed together; now one by one", extra=facts)
            self._meter.handled(self._clock.monotonic() - begun)
            self._meter.failed()
        for pending, delivered in bundle:
            pending.task = None
            if self._is_stale(pending):
                continue
            if confirmed:
                await self._skips.confirmed(pending.shard, delivered)
                self._settle_if_current(pending, Settled.DELIVERED, delivered)
            else:
                pending.is_single = True
                self._ready.append(pending)

    async def _deliver(self, pending: PendingDelivery) -> None:
        event = pending.event
        reason = await self._attempt(pending)
        pending.task = None
        if reason is None or self._is_stale(pending):
            return
        self._meter.failed()
        if pending.event is event:
            await self._fail(pending, reason)
        else:
            # Redacted meanwhile: what it says now has not been tried.
            self._ready.append(pending)

    async def _attempt(self, pending: PendingDelivery) -> str | None:
        """Try to be done with the event; the reason why that was not possible."""
        shard, event = pending.shard, pending.event
        try:
            if self._parking.holds(shard, pending.entity_id) and await self._set_aside(pending):
                return None
            if pending.failures:
                self._meter.retried()
            begun = self._clock.monotonic()
            try:
                await self._handler.handle(self._settings.read_side, shard, event.envelope)
            finally:
                self._meter.handled(self._clock.monotonic() - begun)
        except asyncio.CancelledError:
            if self._is_closed or self._is_stale(pending):
                raise
            # Nobody here cancelled it: a client library does so when it loses its connection.
            return "cancelled"
        except DeliveryFailed as error:
            if error.code is Code.DEADLINE_EXCEEDED:
                self._pace.timed_out(self._clock.monotonic())
            return error.reason
        except Exception as error:  # noqa: BLE001 - no fault of a handler may end its deliveries
            return f"{type(error).__name__}: {said_by(error)}"
        self._pace.confirmed()
        await self._skips.confirmed(shard, [event])
        self._settle_if_current(pending, Settled.DELIVERED, [event])
        return None

    async def _set_aside(self, pending: PendingDelivery) -> bool:
        """Let the event join its entity's dead letters; False if there are none any more."""
        try:
            if not await self._parking.follow(pending.shard, pending.event):
                return False
        except ClaimLost as error:
            self._lost([error.shard])
        except EntityIsErased:
            self._try_redacted(pending)
        except Exception as error:  # noqa: BLE001 - the journal's, mostly: this is no failed delivery
            self._hold_back(pending, 1.0, f"cannot be set aside: {error}")
        else:
            self._settle_if_current(pending, Settled.PARKED, [pending.event])
        return True

    async def _fail(self, pending: PendingDelivery, reason: str) -> None:
        pending.failures += 1
        pending.is_stuck = True
        match self._settings.policy.after(pending.failures):
            case timedelta() as wait:
                self._hold_back(pending, wait.total_seconds(), reason)
            case LastResort.STOP:
                pending.projection.delivery_failed(pending.event, reason, "the shard stops")
                pending.projection.stop()
                self._waiting[pending.shard].append(pending)
            case LastResort.SKIP:
                stored = self._skips.add(pending.shard, pending.event)
                await self._leave_out(pending, Settled.SKIPPED, stored, reason, "the event is skipped")
            case LastResort.PARK:
                stored = self._parking.park(pending.shard, pending.event, reason, pending.failures)
                then = "the entity's events are set aside"
                await self._leave_out(pending, Settled.PARKED, stored, reason, then)
        if not self._is_stale(pending):
            self._moved(pending.projection)

    async def _leave_out(
        self, pending: PendingDelivery, how: Settled, stored: Awaitable[None], reason: str, then: str
    ) -> None:
        """Be done with an event that is not confirmed, once that is stored."""
        try:
            await stored
        except ClaimLost as error:
            self._lost([error.shard])
        except EntityIsErased:
            self._try_redacted(pending)
        except Exception as error:  # noqa: BLE001 - the journal's: the event stays where it is
            self._hold_back(pending, 1.0, f"cannot be {how.value}: {error}")
        else:
            if not self._is_stale(pending):
                pending.projection.delivery_failed(pending.event, reason, then)
                self._settle(pending, [pending.event], how)

    def _try_redacted(self, pending: PendingDelivery) -> None:
        """Its entity is erased: nobody keeps what the event said, so it is delivered without that."""
        if not self._is_stale(pending):
            self.redact(pending.projection, pending.entity_id)
            self._ready.append(pending)

    def _hold_back(self, pending: PendingDelivery, wait: float, reason: str) -> None:
        if self._is_stale(pending):
            return
        due = self._clock.monotonic() + wait
        self._retries.add(due, pending)
        pending.projection.delivery_failed(pending.event, reason, f"again in {wait:g} s")
        self._moved(pending.projection)

    def _settle_if_current(
        self, pending: PendingDelivery, how: Settled, events: list[JournaledEvent]
    ) -> None:
        if not self._is_stale(pending):
            self._settle(pending, events, how)

    def _settle(self, pending: PendingDelivery, events: list[JournaledEvent], how: Settled) -> None:
        """Be done with these events, the first of which is the pending's."""
        projection = pending.projection
        del self._current[pending.shard][pending.entity_id]
        following = None
        for event in events:
            following = projection.settle(event, how)
            measure(self._meter, self._clock.now(), event, how)
        if following is not None:
            self._add(projection, following)
        self._moved(projection)

    def _add(self, projection: Projection, event: JournaledEvent) -> None:
        pending = PendingDelivery(projection, event)
        self._current[projection.shard][pending.entity_id] = pending
        self._ready.append(pending)

    def _is_stale(self, pending: PendingDelivery) -> bool:
        return self._current.get(pending.shard, {}).get(pending.entity_id) is not pending
