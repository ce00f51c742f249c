"""
Lets appends travel together: what arrives while a batch is on its way goes with the next one.

Knows nothing of SQL. One batch is on its way at a time, for many appends in one batch cost the
database, and us, a fraction of what they cost in several. Only when a batch is slow does the next
sender step in, with what has no shard in common with it: so batches on their way never want the same
lock, or the same entity. Shards take turns, and in a shard its entities.
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
"""Extra seconds of waiting for each recent appender, so that one client alone does not wait."""

FEW = 8
"""Where so many entities have something to send already, nobody is waited for."""

STEP_IN = 0.025
"""Seconds after which a batch that has not come back is slow: another is sent beside it."""


_UNMEASURED = UnmeasuredJournal()


class GroupCommit:
    """Collects appends and sends them in batches; belongs to the event loop it is first used in."""

    def __init__(
        self, senders: Sequence[Send], limits: BatchLimits, meter: JournalMeter = _UNMEASURED
    ) -> None:
        """Each sender takes one batch at a time; a later one is used only beside those before it."""
        self._limits, self._meter = limits, meter
        self._senders = senders
        self._idle = set(range(len(senders)))
        self._waiting: dict[EntityId, deque[_Waiting]] = {}
        # By shard, the entities that have something to send, first come first served.
        self._turns: dict[Shard, deque[EntityId]] = {}
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
        never_sent = [waiting for line in self._waiting.values() for waiting in line]
        self._waiting.clear()
        self._turns.clear()
        unfinished = list(self._tasks)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        # Those are left that were cancelled before they had begun.
        never_sent += [waiting for batch in self._under_way for waiting in batch.waiting]
        for waiting in never_sent:
            self._leaves(waiting, JournalUnavailable("the journal is closed"))

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
        append = waiting.append
        self._appends += 1
        self._octets += append.octets
        if (line := self._waiting.get(append.entity_id)) is not None:
            line.append(waiting)
            return
        self._waiting[append.entity_id] = deque([waiting])
        self._turns.setdefault(append.shard, deque()).append(append.entity_id)
        self._look()

    def _leaves(self, waiting: _Waiting, answer: Answer) -> None:
        self._appends -= 1
        self._octets -= waiting.append.octets
        waiting.settle(answer)

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
        is_waiting_for_more = len(self._waiting) < FEW and not self._closed
        linger = min(LONGEST_LINGER, LINGER_FOR_EACH * self._company) if is_waiting_for_more else 0.0
        if not self._under_way:
            return linger
        slow_from = max(batch.begun for batch in self._under_way) + STEP_IN
        return max(linger, slow_from - asyncio.get_running_loop().time())

    def _send(self) -> None:
        self._next = None
        batch = self._next_batch()
        if not batch.waiting:
            # Whatever waits is of shards under way.
            return
        self._under_way.append(batch)
        sender = min(self._idle)
        self._idle.remove(sender)
        task = asyncio.get_running_loop().create_task(self._take(batch, sender))
        # The loop keeps no strong reference to it.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._look()

    async def _take(self, batch: _Batch, sender: int) -> None:
        answers = await self._answers(batch, self._senders[sender])
        for waiting, answer in zip(batch.waiting, answers, strict=True):
            self._leaves(waiting, answer)
        self._under_way.remove(batch)
        self._idle.add(sender)
        self._look_anew()
        self._meter.stored(len(answers), asyncio.get_running_loop().time() - batch.begun)
        for answer in answers:
            if isinstance(answer, JournalUnavailable | OutcomeUnknown):
                self._meter.failed(isinstance(answer, JournalUnavailable))

    async def _answers(self, batch: _Batch, send: Send) -> Sequence[Answer]:
        try:
            answers = await send([waiting.append for waiting in batch.waiting])
            if len(answers) == len(batch.waiting):
                return answers
            unknown = OutcomeUnknown(f"unforeseen: {len(answers)} answers to {len(batch.waiting)} appends")
        except asyncio.CancelledError:
            unknown = OutcomeUnknown("the journal was closed while the events were on their way")
        except Exception as error:
            # A fault of ours, not of the database: no one can say how far it came.
            logger.exception("an append ended in an unforeseen error")
            unknown = OutcomeUnknown(f"unforeseen: {error!r}")
        return [unknown] * len(batch.waiting)

    def _next_batch(self) -> _Batch:
        """The next append of each entity whose turn it is, as many as fit."""
        batch = _Batch(asyncio.get_running_loop().time())
        away = {waiting.append.shard for other in self._under_way for waiting in other.waiting}
        for shard in [shard for shard in self._turns if shard not in away]:
            turns = self._turns.pop(shard)
            is_full = self._fill(batch, turns)
            if turns:
                # Behind the others.
                self._turns[shard] = turns
            if is_full:
                break
        return batch

    def _fill(self, batch: _Batch, turns: deque[EntityId]) -> bool:
        """Have what fits of a shard in the batch, by turns; answers whether something did not."""
        again: list[EntityId] = []
        too_old = batch.begun - self._limits.waiting_time.total_seconds()
        while turns:
            line = self._waiting[turns[0]]
            while line and (line[0].since < too_old or line[0].answer.done()):
                # Its caller has gone, or hears that it will not be sent.
                late = JournalUnavailable("the append waited too long for the journal")
                self._leaves(line.popleft(), late)
            if line:
                if not batch.has_room_for(line[0].append, self._limits):
                    break
                batch.add(line.popleft())
            entity_id = turns.popleft()
            if line:
                again.append(entity_id)
            else:
                del self._waiting[entity_id]
        is_full = bool(turns)
        # One append of an entity in a batch: the next one builds on its outcome.
        turns.extend(again)
        return is_full


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

    begun: float
    waiting: list[_Waiting] = field(default_factory=list)
    events: int = 0
    octets: int = 0

    def has_room_for(self, append: EncodedAppend, limits: BatchLimits) -> bool:
        """Whether it may have this one, too; the first one always fits."""
        events, octets = self.events + _weight(append), self.octets + append.octets
        return not self.waiting or (events <= limits.events and octets <= limits.octets)

    def add(self, waiting: _Waiting) -> None:
        """Take it along."""
        self.waiting.append(waiting)
        self.events += _weight(waiting.append)
        self.octets += waiting.append.octets


def _weight(append: EncodedAppend) -> int:
    return max(1, len(append.payloads))
