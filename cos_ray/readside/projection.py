"""
One read side in one shard: when to read, what to hand out, how far it has come.

Knows the time but never waits: the loop that does is in `read_side`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from enum import Enum

from typing_extensions import assert_never

from cos_ray.domain.errors import HistoryGap, HistoryWentBack, JournalUnavailable, UnreadableEvent
from cos_ray.domain.failure_policy import Backoff
from cos_ray.domain.ids import EntityId, Offset, Revision, Shard
from cos_ray.domain.messages import JournaledEvent, RowIdentity
from cos_ray.domain.pages import Page
from cos_ray.domain.read_sides import LastError, ShardState, ShardStatus, Span
from cos_ray.domain.trace_ids import trace_id_of
from cos_ray.ports import Clock
from cos_ray.readside.confirmations import Confirmations
from cos_ray.readside.gap_detector import GapDetector
from cos_ray.readside.known_erasures import KnownErasures
from cos_ray.readside.rereads import Rereads
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.readside.window import EventMissing, Held, Window

logger = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds after a logged failure of a shard in which no further one is logged."""

_AT_WORK = (ShardState.RUNNING, ShardState.RETRYING, ShardState.STALLED)


class Settled(Enum):
    """How a read side is done with an event."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    PARKED = "set aside"


class Projection:
    """The progress of a read side in one shard."""

    def __init__(
        self,
        shard: Shard,
        settings: ReadSideSettings,
        clock: Clock,
        held: Held | None = None,
        shards: int = 1,
    ) -> None:
        """`held`: what all of the process's `shards` hold together."""
        self.shard = shard
        self._held = held or Held()
        self._share = settings.look_ahead_octets // shards
        """Bytes that the shard may hold whatever the others do."""
        self.window = Window(Offset(0), self._held)
        self._settings = settings
        self._clock = clock
        self._state = ShardState.STARTING
        self._is_paused = False
        self._is_unusable = False
        self._reading = False
        self._read_began = -math.inf
        self._read_at = math.inf
        self._poked = False
        self._read_failures = 0
        """Failed reads in a row, gaps included."""
        self._barrier: UnreadableEvent | HistoryGap | None = None
        """What in the journal itself the last read ended at."""
        self._counts = dict.fromkeys(Settled, 0)
        self._failures = 0
        self._last_error: LastError | None = None
        self._log_again_at = -math.inf
        self._confirmations = Confirmations(settings.entities_remembered)
        self._failing: set[EntityId] = set()
        """Entities whose next event was not confirmed yet, though tried."""
        self.newest_read: RowIdentity | None = None
        """
        The event that was read last, as far as it is known. A shard's events are stored in their order, so
        while the journal has this one, it has all that were read before.
        """
        self._begin(Offset(0))

    @property
    def offset(self) -> Offset:
        """Every event up to here is delivered, skipped or set aside."""
        return self.window.offset

    @property
    def is_ours(self) -> bool:
        """Whether this process has the shard."""
        return self._state is not ShardState.ELSEWHERE

    @property
    def is_unusable(self) -> bool:
        """Whether there is no offset to go on from."""
        return self._is_unusable

    @property
    def may_deliver(self) -> bool:
        """Whether events are to be handed out."""
        return self._state in _AT_WORK and not self._is_paused

    @property
    def is_at_rest(self) -> bool:
        """Whether it waits for something new to be stored."""
        return (
            self._state is ShardState.RUNNING
            and self._read_at == math.inf
            and not (self._reading or self._is_paused)
            and self._has_room
        )

    def open(self, offset: Offset, known: RowIdentity | None = None, remark: str | None = None) -> None:
        """
        Begin after this offset, at once.

        `known`: the event there, as far as it is known; `remark`: what an operator should know of it.
        """
        if remark is not None:
            self._last_error = LastError(remark, self._clock.now())
        self.newest_read = known
        self._begin(offset)
        self._is_unusable = False
        self._state = ShardState.RUNNING
        self._read_at = self._clock.monotonic()

    def close(self, state: ShardState, reason: str | None = None) -> None:
        """Hold nothing and do nothing, until opened again; the offset stays to be seen."""
        if reason is not None:
            self._last_error = LastError(reason, self._clock.now())
        self._is_unusable = state is ShardState.STOPPED
        self._begin(self.window.offset)
        self._state = state
        self._read_at = math.inf

    def suspend(self) -> None:
        """Neither read nor hand out anything, until opened again."""
        self._state = ShardState.STARTING
        self._read_at = math.inf

    def stop(self) -> None:
        """Read no more."""
        self._state = ShardState.STOPPED
        self._read_at = math.inf

    def pause(self, is_paused: bool) -> None:
        """Neither read nor hand out anything while paused."""
        self._is_paused = is_paused

    def resume(self) -> None:
        """Go on where a failure stopped it."""
        if self._state is ShardState.STOPPED and not self._is_unusable:
            self._state = ShardState.RUNNING
            self._read_at = self._clock.monotonic()

    def notify(self) -> None:
        """There is something new: read now, unless reading is what fails."""
        self._poked = True
        if self._state is ShardState.RUNNING:
            self._read_at = self._clock.monotonic()

    def reads_at(self) -> float:
        """When to read next; never while a read is under way or there is no room for a batch."""
        if self._reading or self._is_paused or not self._has_room:
            return math.inf
        return self._read_at

    def begin_read(self) -> Window:
        """A read begins; it is to bring what comes after `read_to` of the window answered."""
        self._reading = True
        self._read_began = self._clock.monotonic()
        self._poked = False
        return self.window

    def take(self, window: Window, events: Page[JournaledEvent]) -> list[JournaledEvent]:
        """
        Take in what the read brought; answer with what may be delivered at once.

        What lies behind a gap is left where it is, and read again after a while.
        """
        self._reading = False
        deliverable: list[JournaledEvent] = []
        if window is not self.window:
            return deliverable  # it was opened elsewhere meanwhile
        self.known.read(self._read_began, was_empty=not window.entities())
        try:
            for event in events:
                self._continuity.check(event)
                self.newest_read = event.row or self.newest_read
                if self.window.admit(event):
                    deliverable.append(event)
        except HistoryGap as gap:
            self._stall(gap)
        else:
            self._plan_next_read(events.has_more)
        self._make_room()
        return deliverable

    def read_failed(self, window: Window, error: Exception) -> None:
        """The read under way brought nothing but an error."""
        self._reading = False
        if window is not self.window or isinstance(error, HistoryWentBack):
            return  # it was opened elsewhere meanwhile, or is about to be
        self._barrier = error if isinstance(error, UnreadableEvent) else None
        reason = str(error) or type(error).__name__
        wait = self._hold_reads(ShardState.RETRYING, self._settings.journal_retry)
        self._last_error = LastError(reason, self._clock.now())
        if self._may_log():
            surprise = None if isinstance(error, JournalUnavailable) else error
            facts = self._facts(reason=reason, retry_in=wait)
            logger.warning("read side cannot read the journal", extra=facts, exc_info=surprise)

    def rereads_at(self) -> float:
        """When to read again what was left of an entity in the journal."""
        return self.rereads.due_at() if self.may_deliver else math.inf

    def begin_reread(self) -> tuple[EntityId, Revision, int]:
        """Such a read begins: whose events it is to bring, from which on, and how many."""
        limit = max(1, min(self._settings.batch, self._room))
        return *self.rereads.begin(), limit

    def repeat(self, window: Window, entity_id: EntityId, span: Span) -> int:
        """Deliver these events of the entity once more, before those that wait; how many that makes."""
        if window is not self.window:
            return 0
        count = window.repeat(entity_id, span)
        self.rereads.want(entity_id)
        return count

    def settle(self, event: JournaledEvent, how: Settled) -> JournaledEvent | None:
        """Be done with an entity's event; answer with its next one, if there is one."""
        entity_id = event.envelope.meta.entity_id
        self._counts[how] += 1
        self._failing.discard(entity_id)
        if how is not Settled.DELIVERED:
            self._confirmations.leave_out(entity_id)
        following = self.window.settle(event)
        if following is None:
            self.rereads.want(entity_id)
        self._confirmations.tell(event.offset, how is Settled.DELIVERED)
        return following

    def delivery_failed(self, event: JournaledEvent, reason: str, then: str) -> None:
        """The handler has not confirmed the event; `then` says what follows."""
        meta = event.envelope.meta
        self._failures += 1
        self._failing.add(meta.entity_id)
        self._make_room()
        self._last_error = LastError(reason, self._clock.now(), meta.entity_id, meta.revision)
        if self._may_log():
            facts = self._facts(
                reason=reason,
                then=then,
                entity_id=meta.entity_id,
                revision=meta.revision,
                failing_entities=len(self._failing),
            )
            if event.envelope.cause is not None:
                facts["trace_id"] = trace_id_of(event.envelope.cause)
            logger.warning("read handler did not confirm an event", extra=facts)

    def skip_barrier(self) -> bool:
        """Step over what in the journal itself stops the reading, if anything does."""
        match self._barrier:
            case None:
                return self._skip_reread()
            case UnreadableEvent(offset=offset):
                self.window.step_over(offset)
                self._counts[Settled.SKIPPED] += 1
            case HistoryGap():
                pass  # what is missing has no offset
            case unreachable:
                assert_never(unreachable)
        logger.warning("stepped over by an operator", extra=self._facts(barrier=str(self._barrier)))
        self._continuity.forget()
        self._barrier = None
        self._state = ShardState.RUNNING
        self._read_at = self._clock.monotonic()
        return True

    def _skip_reread(self) -> bool:
        entity_id = self.rereads.skip()
        if entity_id is None:
            return False
        self._counts[Settled.SKIPPED] += 1
        self._failing.discard(entity_id)
        self._confirmations.leave_out(entity_id)
        facts = self._facts(entity_id=entity_id)
        logger.warning("what cannot be read again was stepped over by an operator", extra=facts)
        return True

    def wait_for(
        self, entity_id: EntityId, revision: Revision, offset: Offset
    ) -> asyncio.Future[bool] | None:
        """Whether this event is confirmed, as soon as that is known; None: it is behind us."""
        is_behind = self.window.is_settled(entity_id, revision, offset)
        return None if is_behind else self._confirmations.wait_for(offset)

    def has_confirmed(self, entity_id: EntityId, revision: Revision) -> bool:
        """Whether this process knows, without asking the journal, that the event was confirmed."""
        newest = self._continuity.newest_of(entity_id)
        if newest is None or newest < revision:
            return False
        if self._confirmations.may_lack(entity_id):
            return False
        due = self.window.due(entity_id)
        return due is None or due > revision

    def status(self) -> ShardStatus:
        """How it fares."""
        return ShardStatus(
            shard=self.shard,
            state=self._shown_state(),
            offset=self.window.offset,
            pending=self.window.pending,
            deliveries=self._counts[Settled.DELIVERED],
            failures=self._failures,
            skipped=self._counts[Settled.SKIPPED],
            parked=self._counts[Settled.PARKED],
            last_error=self._last_error,
        )

    @property
    def _has_room(self) -> bool:
        return self._room >= self._settings.batch

    @property
    def _room(self) -> int:
        """How many more events may be held."""
        settings = self._settings
        if self.window.octets > self._share and self._held.octets > settings.look_ahead_octets:
            return 0
        return settings.look_ahead - len(self.window) - len(self.rereads) - self.rereads.coming

    def _make_room(self) -> None:
        """Where there is none: who fails must not keep the others' events from being read."""
        if not self._has_room:
            self.window.thin_out(self._failing)

    def _reread_failed(self, entity_id: EntityId, revision: Revision, error: Exception, wait: float) -> None:
        """The events of an entity from this one on could not be read again."""
        is_gap = isinstance(error, EventMissing)
        reason = f"history gap: revision {revision} is not there" if is_gap else str(error) or repr(error)
        self._failures += 1
        self._failing.add(entity_id)
        self._last_error = LastError(reason, self._clock.now(), entity_id, revision)
        if self._may_log():
            facts = self._facts(reason=reason, entity_id=entity_id, revision=revision, retry_in=wait)
            logger.warning("an entity's events cannot be read again", extra=facts)

    def _shown_state(self) -> ShardState:
        if self._is_paused and self._state is not ShardState.ELSEWHERE:
            return ShardState.PAUSED
        if self._state is ShardState.RUNNING and self._failing:
            return ShardState.RETRYING
        return self._state

    def _begin(self, offset: Offset) -> None:
        settings = self._settings
        self.window.close()
        self.window = Window(offset, self._held)
        self.rereads = Rereads(self.window, settings, self._clock, self._reread_failed)
        self.known = KnownErasures()
        self._continuity = GapDetector(settings.read_side, self.shard, offset, settings.entities_remembered)
        self._failing.clear()
        self._confirmations.begin_anew()
        self._barrier = None
        self._read_failures = 0

    def _plan_next_read(self, has_more: bool) -> None:
        """After a read that brought events, behind which there may be more."""
        self._read_failures = 0
        self._barrier = None
        if self._state in _AT_WORK:
            self._state = ShardState.RUNNING
            # At rest, it is told when there is something new.
            more = self._poked or has_more
            self._read_at = self._clock.monotonic() if more else math.inf

    def _stall(self, gap: HistoryGap) -> None:
        wait = self._hold_reads(ShardState.STALLED, self._settings.gap_retry)
        self._barrier = gap
        reason = f"history gap: the event before offset {gap.offset} was never seen"
        self._last_error = LastError(reason, self._clock.now(), gap.entity_id)
        facts = self._facts(entity_id=gap.entity_id, offset=gap.offset, retry_in=wait)
        logger.error("history gap: read side stalls in this shard", extra=facts)

    def _hold_reads(self, state: ShardState, backoff: Backoff) -> float:
        """Read again after a while; answer with how many seconds."""
        self._failures += 1
        self._read_failures += 1
        wait = backoff.wait(self._read_failures).total_seconds()
        if self._state in _AT_WORK:
            self._state = state
            self._read_at = self._clock.monotonic() + wait
        return wait

    def _may_log(self) -> bool:
        """Whether the last logged failure is long enough ago: a handler that is down fails thousandfold."""
        now = self._clock.monotonic()
        if now < self._log_again_at:
            return False
        self._log_again_at = now + QUIET
        return True

    def _facts(self, **facts: object) -> dict[str, object]:
        return {"read_side": self._settings.read_side, "shard": self.shard, **facts}
