"""
Lets appends travel together: what arrives while a batch is on its way goes with the next one.

Knows nothing of SQL. A few lanes send side by side; a shard always uses the same lane, so that
batches on their way never want the same lock, or the same entity. Entities take turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass
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


LINGER = 0.003
"""Seconds that a batch of a few appends waits for more, if there are others about."""

FEW = 8
"""With so many appends a batch goes at once."""

IN_COMPANY = 0.75
"""From so many others on that an append finds there: one client alone never waits."""


_UNMEASURED = UnmeasuredJournal()


def lane_of(shard: Shard, lanes: int) -> int:
    """The lane a shard uses: the same on every node, and even for every k-th shard, too."""
    return ((shard * 0x9E3779B1 & 0xFFFFFFFF) >> 16) % lanes


class GroupCommit:
    """Collects appends and sends them in batches, one batch at a time in each lane."""

    def __init__(
        self, senders: Sequence[Send], limits: BatchLimits, meter: JournalMeter = _UNMEASURED
    ) -> None:
        self._limits = limits
        self._load = _Load()
        self._lanes = [_Lane(send, limits, self._load, meter) for send in senders]
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many appends have not been answered."""
        return self._load.appends

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(lane.run(), name="journal lane") for lane in self._lanes]

    async def stop(self, within: timedelta) -> None:
        """Send what waits, for so long; then turn the rest away."""
        self._closed = True
        for lane in self._lanes:
            lane.finish()
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=within.total_seconds())
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        for lane in self._lanes:
            lane.give_up()

    async def append(self, append: EncodedAppend) -> Offset:
        """
        Wait until the append has been answered. Raises what the answer says.

        When cancelled, an append that has not been sent is not sent; one on its way goes on.
        """
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        limits, load = self._limits, self._load
        if load.appends >= limits.waiting_appends or load.octets + append.octets > limits.waiting_octets:
            raise JournalUnavailable("too many appends wait for the journal")
        loop = asyncio.get_running_loop()
        load.company += (load.appends - load.company) / 16
        waiting = _Waiting(append, loop.create_future(), loop.time())
        self._lanes[lane_of(append.shard, len(self._lanes))].enter(waiting)
        answer = await waiting.answer
        if isinstance(answer, CosError):
            # Its own copy, for a batch shares one answer and each raise marks what it raises.
            raise copy(answer)
        return answer


@dataclass(slots=True)
class _Load:
    """What has been asked for and not been answered, over all lanes."""

    appends: int = 0
    octets: int = 0
    company: float = 0.0
    """How many others an append finds there when it comes, on the average of late."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    append: EncodedAppend
    answer: asyncio.Future[Answer]
    since: float

    def settle(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class _Lane:
    """One batch after the other."""

    def __init__(self, send: Send, limits: BatchLimits, load: _Load, meter: JournalMeter) -> None:
        self._send, self._limits, self._load, self._meter = send, limits, load, meter
        # The entities that have something to send, first come first served, and what it is.
        self._turns: deque[EntityId] = deque()
        self._waiting: dict[EntityId, deque[_Waiting]] = {}
        self._under_way: list[_Waiting] = []
        self._news = asyncio.Event()
        self._finishing = False

    def enter(self, waiting: _Waiting) -> None:
        self._load.appends += 1
        self._load.octets += waiting.append.octets
        entity_id = waiting.append.entity_id
        if (line := self._waiting.get(entity_id)) is not None:
            line.append(waiting)
            return
        self._waiting[entity_id] = deque([waiting])
        self._turns.append(entity_id)
        self._news.set()

    def finish(self) -> None:
        """End when nothing waits any more."""
        self._finishing = True
        self._news.set()

    async def run(self) -> None:
        while True:
            if len(self._turns) < FEW and self._load.company >= IN_COMPANY and not self._finishing:
                await asyncio.sleep(LINGER)
            batch = self._under_way = self._next_batch()
            if batch:
                await self._take(batch)
            elif self._finishing:
                return
            else:
                self._news.clear()
                await self._news.wait()

    def give_up(self) -> None:
        """Answer all that has not been answered, as truthfully as can be."""
        for waiting in self._under_way:
            waiting.settle(OutcomeUnknown("the journal was closed while the events were on their way"))
        for line in self._waiting.values():
            for waiting in line:
                waiting.settle(JournalUnavailable("the journal is closed"))
        self._waiting.clear()
        self._turns.clear()

    async def _take(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            answers = await self._send([waiting.append for waiting in batch])
        except Exception as error:
            # A fault of ours, not of the database: no one can say how far it came.
            logger.exception("an append ended in an unforeseen error")
            unknown = OutcomeUnknown(f"unforeseen: {error!r}")
            answers = [unknown] * len(batch)
        self._meter.stored(len(batch), loop.time() - begun)
        for waiting, answer in zip(batch, answers, strict=True):
            if isinstance(answer, JournalUnavailable | OutcomeUnknown):
                self._meter.failed(isinstance(answer, JournalUnavailable))
            waiting.settle(answer)
        self._under_way = []
        self._load.appends -= len(batch)
        self._load.octets -= sum(waiting.append.octets for waiting in batch)

    def _next_batch(self) -> list[_Waiting]:
        """The next append of each entity whose turn it is, as many as fit."""
        batch: list[_Waiting] = []
        again: list[EntityId] = []
        events = octets = 0
        too_old = asyncio.get_running_loop().time() - self._limits.waiting_time.total_seconds()
        while self._turns:
            entity_id = self._turns[0]
            line = self._waiting[entity_id]
            while line and (line[0].since < too_old or line[0].answer.done()):
                self._forget(line.popleft())
            if line:
                append = line[0].append
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
        return batch

    def _forget(self, waiting: _Waiting) -> None:
        """Its caller has gone before it was sent, or hears that it will not be."""
        waiting.settle(JournalUnavailable("the append waited too long for the journal"))
        self._load.appends -= 1
        self._load.octets -= waiting.append.octets
