"""
Lets appends travel together: what arrives while a batch is on its way goes with the next one.

Knows nothing of SQL. One batch is on its way at a time, for many appends in one batch cost the
database, and us, a fraction of what they cost in several. Only when a batch is slow does the next
sender step in, with what has no shard in common with it: so batches on their way never want the same
lock, or the same entity. Entities take turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from cos_ray.domain.errors import CosError, JournalUnavailable, OutcomeUnknown
from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.ports import JournalMeter, UnmeasuredJournal
from cos_ray.postgres.rows import EncodedAppend

logger = logging.getLogger(__name__)

Answer: TypeAlias = Offset | CosError
"""What became of one append: where its last event lies, or why it has none."""

Send: TypeAlias = Callable[[Sequence[EncodedAppend]], Awaitable[Sequence[Answer]]]
"""Takes a batch of appends of different entities to the journal; answers each, in order."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much travels at once, and how much may wait."""

    events: int = 256
    """Events in one batch; an append with more travels alone."""
    octets: int = 4 * 1024 * 1024
    """Bytes in one batch; an append with more travels alone."""
    waiting_appends: int = 20_000
    """Appends that may wait in one process; the next are turned away."""
    waiting_octets: int = 512 * 1024 * 1024
    """Bytes that may wait in one process."""
    waiting_time: timedelta = timedelta(seconds=5)
    """How long an append may wait to be sent; who asked for it has given up by then, mostly."""


LONGEST_LINGER = 0.003
"""Seconds that a batch waits for more appends at most."""

LINGER_FOR_EACH = 0.0004
"""Seconds that it waits for each of those who are about: one client alone never waits."""

FEW = 8
"""With so many appends a batch goes at once."""

STEP_IN = 0.025
"""Seconds after which a batch that has not come back is slow: another is sent beside it."""


_UNMEASURED = UnmeasuredJournal()


class GroupCommit:
    """Collects appends and sends them in batches; belongs to the event loop it is first used in."""

    def __init__(
        self, senders: Sequence[Send], limits: BatchLimits, meter: JournalMeter = _UNMEASURED
    ) -> None:
        """`senders` in the order in which they step in; each takes one batch at a time."""
        self._limits, self._meter = limits, meter
        # Used from the end, so that a sender that is rarely needed stays rare.
        self._idle = list(reversed(senders))
        # The entities that have something to send, first come first served, and what it is.
        self._turns: deque[EntityId] = deque()
        self._waiting: dict[EntityId, deque[_Waiting]] = {}
        self._away: dict[Shard, _Batch] = {}
        self._under_way: list[_Batch] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._next: asyncio.TimerHandle | None = None
        self._appends = self._octets = 0
        # How many others an append finds here when it comes, on the average of late.
        self._company = 0.0
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many appends have not been answered."""
        return self._appends

    async def stop(self, within: timedelta) -> None:
        """Send what waits, for so long; then turn the rest away."""
        self._closed = True
        self._look_anew()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within.total_seconds()
        while self._appends and (left := deadline - loop.time()) > 0:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            # The next one sets out.
            await asyncio.sleep(0)
        for line in self._waiting.values():
            for waiting in line:
                self._turn_away(waiting, "the journal is closed")
        self._waiting.clear()
        self._turns.clear()
        for batch in self._under_way:
            batch.held_up.clear()
        unfinished = list(self._tasks)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    async def append(self, append: EncodedAppend) -> Offset:
        """
        Wait until the append has been answered. Raises what the answer says.

        When cancelled, an append that has not been sent is not sent; one on its way goes on.
        """
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        limits = self._limits
        if self._appends >= limits.waiting_appends or self._octets + append.octets > limits.waiting_octets:
            raise JournalUnavailable("too many appends wait for the journal")
        loop = asyncio.get_running_loop()
        self._company += (self._appends - self._company) / 16
        waiting = _Waiting(append, loop.create_future(), loop.time())
        self._enter(waiting)
        answer = await waiting.answer
        if isinstance(answer, CosError):
            # Its own copy, for a batch shares one answer and each raise marks what it raises.
            raise copy(answer)
        return answer

    def _enter(self, waiting: _Waiting) -> None:
        self._appends += 1
        self._octets += waiting.append.octets
        entity_id = waiting.append.entity_id
        if (line := self._waiting.get(entity_id)) is not None:
            line.append(waiting)
            return
        self._waiting[entity_id] = deque([waiting])
        self._turns.append(entity_id)
        self._look()

    def _look(self) -> None:
        """Have the next batch sent when its time comes, if there is one, and someone to take it."""
        if self._next is None and self._turns and self._idle:
            self._next = asyncio.get_running_loop().call_later(self._pause(), self._send)

    def _look_anew(self) -> None:
        """The next batch's time may have come earlier than was thought."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._look()

    def _pause(self) -> float:
        """Seconds until the next batch may go."""
        is_waiting_for_more = len(self._turns) < FEW and not self._closed
        linger = min(LONGEST_LINGER, LINGER_FOR_EACH * self._company) if is_waiting_for_more else 0.0
        if not self._under_way:
            return linger
        slow_from = max(batch.begun for batch in self._under_way) + STEP_IN
        return max(linger, slow_from - asyncio.get_running_loop().time())

    def _send(self) -> None:
        self._next = None
        batch = self._next_batch()
        if not batch.waiting:
            return
        self._under_way.append(batch)
        self._away.update((waiting.append.shard, batch) for waiting in batch.waiting)
        task = asyncio.get_running_loop().create_task(self._take(batch, self._idle.pop()))
        # The loop keeps no strong reference to it.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._look()

    async def _take(self, batch: _Batch, send: Send) -> None:
        appends = [waiting.append for waiting in batch.waiting]
        try:
            answers = await send(appends)
        except asyncio.CancelledError:
            closed = OutcomeUnknown("the journal was closed while the events were on their way")
            answers = [closed] * len(appends)
        except Exception as error:
            # A fault of ours, not of the database: no one can say how far it came.
            logger.exception("an append ended in an unforeseen error")
            answers = [OutcomeUnknown(f"unforeseen: {error!r}")] * len(appends)
        self._meter.stored(len(appends), asyncio.get_running_loop().time() - batch.begun)
        for waiting, answer in zip(batch.waiting, answers, strict=True):
            if isinstance(answer, JournalUnavailable | OutcomeUnknown):
                self._meter.failed(isinstance(answer, JournalUnavailable))
            waiting.settle(answer)
        self._appends -= len(appends)
        self._octets -= sum(append.octets for append in appends)
        self._came_back(batch, send)

    def _came_back(self, batch: _Batch, send: Send) -> None:
        self._under_way.remove(batch)
        self._idle.append(send)
        for shard in {waiting.append.shard for waiting in batch.waiting}:
            del self._away[shard]
        self._turns.extend(batch.held_up)
        self._look_anew()

    def _next_batch(self) -> _Batch:
        """The next append of each entity whose turn it is, as many as fit."""
        batch: list[_Waiting] = []
        again: list[EntityId] = []
        events = octets = 0
        now = asyncio.get_running_loop().time()
        too_old = now - self._limits.waiting_time.total_seconds()
        while self._turns:
            entity_id = self._turns[0]
            line = self._waiting[entity_id]
            while line and (line[0].since < too_old or line[0].answer.done()):
                # Its caller has gone, or hears that it will not be sent.
                self._turn_away(line.popleft(), "the append waited too long for the journal")
            if line:
                append = line[0].append
                if (other := self._away.get(append.shard)) is not None:
                    other.held_up.append(self._turns.popleft())
                    continue
                events += max(1, len(append.payloads))
                octets += append.octets
                if batch and (events > self._limits.events or octets > self._limits.octets):
                    break
                batch.append(line.popleft())
            self._turns.popleft()
            if line:
                again.append(entity_id)
            else:
                del self._waiting[entity_id]
        # One append of an entity in a batch: the next one builds on its outcome.
        self._turns.extend(again)
        return _Batch(batch, now)

    def _turn_away(self, waiting: _Waiting, reason: str) -> None:
        waiting.settle(JournalUnavailable(reason))
        self._appends -= 1
        self._octets -= waiting.append.octets


@dataclass(frozen=True, slots=True)
class _Waiting:
    append: EncodedAppend
    answer: asyncio.Future[Answer]
    since: float

    def settle(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


@dataclass(slots=True, eq=False)
class _Batch:
    """What is on its way together."""

    waiting: Sequence[_Waiting]
    begun: float
    held_up: list[EntityId] = field(default_factory=list)
    """Entities whose turn came meanwhile, and which have a shard in common with it."""
