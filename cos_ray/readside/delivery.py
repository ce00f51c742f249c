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
from cos_ray.readside.measuring import measure
from cos_ray.readside.pace import Pace
from cos_ray.readside.parcel import Parcel
from cos_ray.readside.parking import Parking
from cos_ray.readside.projection import Projection, Settled
from cos_ray.readside.retries import Retries
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
        self._current: dict[Shard, dict[EntityId, Parcel]] = defaultdict(dict)
        """The parcel of each entity that has any; one that is not here is stale, wherever it turns up."""
        self._ready: deque[Parcel] = deque()
        self._waiting: dict[Shard, list[Parcel]] = defaultdict(list)
        """Those that are due in shards that do not deliver, or not now."""
        self._retries = Retries()
        self._held: set[tuple[Shard, EntityId]] = set()
        """Entities whose events wait until their earlier ones have been put before them."""
        self._running = Tasks(self.start)
        self._pace = Pace(settings.concurrency)
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
        for parcel in self._waiting.pop(projection.shard, ()):
            if anew:
                parcel.failures = 0
            self._ready.append(parcel)
        self.start()

    def take_stuck(self, projection: Projection) -> Parcel | None:
        """
        The shard's first event that is not confirmed though tried, if there is one.

        A try under way is cut short, and none begins: `skip` or `put_back` is to follow.
        """
        stuck = [parcel for parcel in self._current[projection.shard].values() if parcel.is_stuck]
        if not stuck:
            return None
        parcel = min(stuck, key=lambda parcel: parcel.event.offset)
        if parcel.task is not None:
            self._running.give_up(parcel.task)
        again = self._current[projection.shard][parcel.entity_id] = parcel.again()
        return again

    def put_back(self, parcel: Parcel) -> None:
        """Try it again."""
        self._ready.append(parcel)
        self.start()

    def skip(self, parcel: Parcel) -> bool:
        """Step over it; False if it is not its turn any more."""
        if self._is_stale(parcel):
            return False
        self._settle(parcel, [parcel.event], Settled.SKIPPED)
        self.start()
        return True

    async def empty(self, projection: Projection, within: timedelta) -> None:
        """Have nothing of the shard any more: let deliveries under way end, or cut them short."""
        parcels = self._current[projection.shard].values()
        tasks = [parcel.task for parcel in parcels if parcel.task is not None]
        if tasks and within > timedelta(0):
            alarm = asyncio.ensure_future(self._clock.sleep(within.total_seconds()))
            ended = asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.wait((ended, alarm), return_when=asyncio.FIRST_COMPLETED)
            alarm.cancel()
        self.drop(projection)

    def drop(self, projection: Projection) -> None:
        """Have nothing of the shard any more, at once."""
        for parcel in self._current.pop(projection.shard, {}).values():
            if parcel.task is not None:
                self._running.give_up(parcel.task)
        self._waiting.pop(projection.shard, None)

    def redact(self, projection: Projection, entity_id: EntityId) -> None:
        """
        The entity is erased: what waits of it says nothing any more, and is tried anew.

        A delivery under way goes on; what becomes of it, unless it is confirmed, does not count.
        """
        projection.window.redact(entity_id)
        parcel = self._current[projection.shard].get(entity_id)
        if parcel is not None and parcel.event is not (event := redacted_event(parcel.event)):
            head = projection.window.head(entity_id)
            parcel.event = head if head is not None and head.offset == event.offset else event
            parcel.failures, parcel.is_stuck = 0, False

    def interrupt(self, projection: Projection) -> None:
        """Cut short what is under way in the shard; it is delivered again as soon as that may be."""
        current = self._current[projection.shard]
        for entity_id, parcel in list(current.items()):
            if parcel.task is None:
                continue
            self._running.give_up(parcel.task)
            current[entity_id] = parcel.again()
            self._ready.append(current[entity_id])
        self.start()

    def has(self, projection: Projection, entity_id: EntityId) -> bool:
        """Whether an event of this entity is on its way."""
        return entity_id in self._current[projection.shard]

    async def hold(self, projection: Projection, entity_id: EntityId) -> None:
        """Begin no delivery of the entity until `go_on`; return when none is under way."""
        self._held.add((projection.shard, entity_id))
        parcel = self._current[projection.shard].get(entity_id)
        if parcel is not None and parcel.task is not None:
            await asyncio.wait({parcel.task})

    def go_on(self, projection: Projection, entity_id: EntityId) -> None:
        """Deliver the entity's events again, beginning with what is now the first."""
        self._held.discard((projection.shard, entity_id))
        head = projection.window.head(entity_id)
        parcel = self._current[projection.shard].get(entity_id)
        if parcel is not None and parcel.event is not head:
            del self._current[projection.shard][entity_id]
            parcel = None
        if head is not None and parcel is None:
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
            parcel = self._next()
            if parcel is None:
                return
            if self._many is None or self._goes_alone(parcel):
                parcel.task = self._running.start(self._deliver(parcel), size_of(parcel.event))
            else:
                self._start_many(parcel, self._many)

    @property
    def _has_place(self) -> bool:
        is_light = self._running.weight < self._settings.concurrent_octets
        return len(self._running) < self._pace.limit and (is_light or not len(self._running))

    def _next(self) -> Parcel | None:
        """The next parcel that may be delivered; those that may not yet wait elsewhere."""
        while self._ready:
            parcel = self._ready.popleft()
            if self._is_stale(parcel):
                continue
            is_held = (parcel.shard, parcel.entity_id) in self._held
            if parcel.projection.may_deliver and not is_held and self._may_begin(parcel.projection):
                return parcel
            self._waiting[parcel.shard].append(parcel)
        return None

    def _goes_alone(self, parcel: Parcel) -> bool:
        return parcel.is_single or self._parking.holds(parcel.shard, parcel.entity_id)

    def _start_many(self, parcel: Parcel, handler: BatchReadHandler) -> None:
        bundle: list[tuple[Parcel, list[JournaledEvent]]] = []
        alone: list[Parcel] = []
        room, octets = handler.batch, self._settings.batch_octets
        following: Parcel | None = parcel
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
        self, bundle: list[tuple[Parcel, list[JournaledEvent]]], handler: BatchReadHandler
    ) -> None:
        events = [(parcel.shard, event.envelope) for parcel, events in bundle for event in events]
        confirmed = False
        begun = self._clock.monotonic()
        try:
            await handler.handle_many(self._settings.read_side, events)
            confirmed = True
            self._meter.handled(self._clock.monotonic() - begun)
        except asyncio.CancelledError:
            if self._is_closed or all(self._is_stale(parcel) for parcel, _ in bundle):
                raise
        except Exception as error:  # noqa: BLE001 - which of them is at fault, each alone will show
            facts = {"read_side": self._settings.read_side, "events": len(events), "reason": str(error)}
            logger.info("events not confirmed together; now one by one", extra=facts)
            self._meter.handled(self._clock.monotonic() - begun)
            self._meter.failed()
        for parcel, delivered in bundle:
            parcel.task = None
            if self._is_stale(parcel):
                continue
            if confirmed:
                await self._skips.confirmed(parcel.shard, delivered)
                self._settle_if_current(parcel, Settled.DELIVERED, delivered)
            else:
                parcel.is_single = True
                self._ready.append(parcel)

    async def _deliver(self, parcel: Parcel) -> None:
        event = parcel.event
        reason = await self._attempt(parcel)
        parcel.task = None
        if reason is None or self._is_stale(parcel):
            return
        self._meter.failed()
        if parcel.event is event:
            await self._fail(parcel, reason)
        else:
            # Redacted meanwhile: what it says now has not been tried.
            self._ready.append(parcel)

    async def _attempt(self, parcel: Parcel) -> str | None:
        """Try to be done with the event; the reason why that was not possible."""
        shard, event = parcel.shard, parcel.event
        try:
            if self._parking.holds(shard, parcel.entity_id) and await self._set_aside(parcel):
                return None
            if parcel.failures:
                self._meter.retried()
            begun = self._clock.monotonic()
            try:
                await self._handler.handle(self._settings.read_side, shard, event.envelope)
            finally:
                self._meter.handled(self._clock.monotonic() - begun)
        except asyncio.CancelledError:
            if self._is_closed or self._is_stale(parcel):
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
        self._settle_if_current(parcel, Settled.DELIVERED, [event])
        return None

    async def _set_aside(self, parcel: Parcel) -> bool:
        """Let the event join its entity's dead letters; False if there are none any more."""
        try:
            if not await self._parking.follow(parcel.shard, parcel.event):
                return False
        except ClaimLost as error:
            self._lost([error.shard])
        except EntityIsErased:
            self._try_redacted(parcel)
        except Exception as error:  # noqa: BLE001 - the journal's, mostly: this is no failed delivery
            self._hold_back(parcel, 1.0, f"cannot be set aside: {error}")
        else:
            self._settle_if_current(parcel, Settled.PARKED, [parcel.event])
        return True

    async def _fail(self, parcel: Parcel, reason: str) -> None:
        parcel.failures += 1
        parcel.is_stuck = True
        match self._settings.policy.after(parcel.failures):
            case timedelta() as wait:
                self._hold_back(parcel, wait.total_seconds(), reason)
            case LastResort.STOP:
                parcel.projection.delivery_failed(parcel.event, reason, "the shard stops")
                parcel.projection.stop()
                self._waiting[parcel.shard].append(parcel)
            case LastResort.SKIP:
                stored = self._skips.add(parcel.shard, parcel.event)
                await self._leave_out(parcel, Settled.SKIPPED, stored, reason, "the event is skipped")
            case LastResort.PARK:
                stored = self._parking.park(parcel.shard, parcel.event, reason, parcel.failures)
                then = "the entity's events are set aside"
                await self._leave_out(parcel, Settled.PARKED, stored, reason, then)
        if not self._is_stale(parcel):
            self._moved(parcel.projection)

    async def _leave_out(
        self, parcel: Parcel, how: Settled, stored: Awaitable[None], reason: str, then: str
    ) -> None:
        """Be done with an event that is not confirmed, once that is stored."""
        try:
            await stored
        except ClaimLost as error:
            self._lost([error.shard])
        except EntityIsErased:
            self._try_redacted(parcel)
        except Exception as error:  # noqa: BLE001 - the journal's: the event stays where it is
            self._hold_back(parcel, 1.0, f"cannot be {how.value}: {error}")
        else:
            if not self._is_stale(parcel):
                parcel.projection.delivery_failed(parcel.event, reason, then)
                self._settle(parcel, [parcel.event], how)

    def _try_redacted(self, parcel: Parcel) -> None:
        """Its entity is erased: nobody keeps what the event said, so it is delivered without that."""
        if not self._is_stale(parcel):
            self.redact(parcel.projection, parcel.entity_id)
            self._ready.append(parcel)

    def _hold_back(self, parcel: Parcel, wait: float, reason: str) -> None:
        if self._is_stale(parcel):
            return
        due = self._clock.monotonic() + wait
        self._retries.add(due, parcel)
        parcel.projection.delivery_failed(parcel.event, reason, f"again in {wait:g} s")
        self._moved(parcel.projection)

    def _settle_if_current(self, parcel: Parcel, how: Settled, events: list[JournaledEvent]) -> None:
        if not self._is_stale(parcel):
            self._settle(parcel, events, how)

    def _settle(self, parcel: Parcel, events: list[JournaledEvent], how: Settled) -> None:
        """Be done with these events, the first of which is the parcel's."""
        projection = parcel.projection
        del self._current[parcel.shard][parcel.entity_id]
        following = None
        for event in events:
            following = projection.settle(event, how)
            measure(self._meter, self._clock.now(), event, how)
        if following is not None:
            self._add(projection, following)
        self._moved(projection)

    def _add(self, projection: Projection, event: JournaledEvent) -> None:
        parcel = Parcel(projection, event)
        self._current[projection.shard][parcel.entity_id] = parcel
        self._ready.append(parcel)

    def _is_stale(self, parcel: Parcel) -> bool:
        return self._current.get(parcel.shard, {}).get(parcel.entity_id) is not parcel
