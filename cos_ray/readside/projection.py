"""
One read side in one shard: when to read, what to hand out, how far it has come.

Knows the time but never waits: the loop that does is in `read_side`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from cos_ray.domain.errors import HistoryGap, JournalUnavailable
from cos_ray.domain.failure_policy import Backoff
from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.ports import Clock
from cos_ray.readside.continuity import Continuity
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.readside.status import LastError, ShardState, ShardStatus
from cos_ray.readside.window import Window

logger = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds after a logged failure of a shard in which no further one is logged."""


class Projection:
    """The progress of a read side in one shard."""

    def __init__(self, shard: Shard, settings: ReadSideSettings, clock: Clock) -> None:
        self.shard = shard
        self._settings = settings
        self._clock = clock
        self._begin(Offset(0))
        self._state = ShardState.STARTING
        self._reading = False
        self._read_at = math.inf
        self._poll = settings.poll
        self._poked = False
        self._read_failures = 0
        """Failed reads in a row, gaps included."""
        self._failing: set[EntityId] = set()
        """Entities whose next event was not confirmed yet, though tried."""
        self._deliveries = 0
        self._failures = 0
        self._last_error: LastError | None = None
        self._log_again_at = -math.inf

    @property
    def offset(self) -> Offset:
        """Every event up to here is delivered."""
        return self._window.offset

    def open(self, offset: Offset) -> None:
        """Begin after this offset, at once."""
        self._begin(offset)
        self._state = ShardState.RUNNING
        self._read_at = self._clock.monotonic()

    def stop(self) -> None:
        """Read no more."""
        self._state = ShardState.STOPPED
        self._read_at = math.inf

    def poke(self) -> None:
        """There is something new: read now, unless reading is what fails."""
        self._poked = True
        self._poll = self._settings.poll
        if self._state is ShardState.RUNNING:
            self._read_at = self._clock.monotonic()

    def reads_at(self) -> float:
        """When to read next; never while a read is under way or there is no room for a batch."""
        if self._reading or len(self._window) + self._settings.batch > self._settings.look_ahead:
            return math.inf
        return self._read_at

    def begin_read(self) -> Offset:
        """A read begins; it is to bring what comes after the offset answered."""
        self._reading = True
        self._poked = False
        return self._window.read_to

    def take(self, events: Sequence[JournaledEvent]) -> list[JournaledEvent]:
        """
        Take in what the read brought; answer with what may be delivered at once.

        What lies behind a gap is left where it is, and read again after a while.
        """
        self._reading = False
        deliverable = []
        try:
            for event in events:
                self._continuity.check(event)
                if self._window.admit(event):
                    deliverable.append(event)
        except HistoryGap as gap:
            self._stall(gap)
        else:
            self._plan_next_read(len(events))
        return deliverable

    def read_failed(self, error: Exception) -> None:
        """The read under way brought nothing but an error."""
        self._reading = False
        reason = str(error) or type(error).__name__
        wait = self._hold_reads(ShardState.RETRYING, self._settings.journal_retry)
        self._last_error = LastError(reason, self._clock.now())
        if self._may_log():
            surprise = None if isinstance(error, JournalUnavailable) else error
            facts = self._facts(reason=reason, retry_in=wait)
            logger.warning("read side cannot read the journal", extra=facts, exc_info=surprise)

    def delivered(self, event: JournaledEvent) -> JournaledEvent | None:
        """The handler has confirmed the event; answer with the entity's next one, if there is one."""
        self._deliveries += 1
        self._failing.discard(event.envelope.meta.entity_id)
        return self._window.settle(event)

    def delivery_failed(self, event: JournaledEvent, reason: str, retry_in: float) -> None:
        """The handler has not confirmed the event; it is delivered again in so many seconds."""
        meta = event.envelope.meta
        self._failures += 1
        self._failing.add(meta.entity_id)
        self._last_error = LastError(reason, self._clock.now(), meta.entity_id, meta.revision)
        if self._may_log():
            facts = self._facts(
                reason=reason,
                retry_in=retry_in,
                entity_id=meta.entity_id,
                revision=meta.revision,
                failing_entities=len(self._failing),
            )
            logger.warning("read handler did not confirm an event", extra=facts)

    def status(self) -> ShardStatus:
        """How it fares."""
        retrying = self._state is ShardState.RUNNING and self._failing
        return ShardStatus(
            shard=self.shard,
            state=ShardState.RETRYING if retrying else self._state,
            offset=self._window.offset,
            pending=len(self._window),
            deliveries=self._deliveries,
            failures=self._failures,
            last_error=self._last_error,
        )

    def _begin(self, offset: Offset) -> None:
        settings = self._settings
        self._window = Window(offset)
        self._continuity = Continuity(settings.read_side, self.shard, offset, settings.entities_remembered)

    def _plan_next_read(self, events: int) -> None:
        """After a read that brought so many events."""
        self._read_failures = 0
        self._state = ShardState.RUNNING
        more = self._poked or events >= self._settings.batch
        if events or self._poked:
            self._poll = self._settings.poll
        self._read_at = self._clock.monotonic() + (0.0 if more else self._poll.total_seconds())
        # Each read that brings nothing makes the next one wait longer.
        self._poll = min(self._poll * 2, self._settings.idle_poll) if not events else self._poll

    def _stall(self, gap: HistoryGap) -> None:
        wait = self._hold_reads(ShardState.STALLED, self._settings.gap_retry)
        reason = f"history gap: the event before offset {gap.offset} was never seen"
        self._last_error = LastError(reason, self._clock.now(), gap.entity_id)
        facts = self._facts(entity_id=gap.entity_id, offset=gap.offset, retry_in=wait)
        logger.error("history gap: read side stalls in this shard", extra=facts)

    def _hold_reads(self, state: ShardState, backoff: Backoff) -> float:
        """Read again after a while; answer with how many seconds."""
        self._state = state
        self._failures += 1
        self._read_failures += 1
        wait = backoff.wait(self._read_failures).total_seconds()
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
