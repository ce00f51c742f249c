"""
A read handler that writes down what it is given, fails where told to, and the check of its book.

The check is what every test of read sides stands on, so it has tests of its own.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from cos_ray.domain.errors import DeliveryFailed
from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope


class Outcome(Enum):
    """How a delivery ended."""

    UNDER_WAY = "under way"
    CONFIRMED = "confirmed"
    FAILED = "failed"


@dataclass(slots=True)
class Attempt:
    """One delivery of one event, as the handler saw it."""

    life: int
    """Which run of the read side it came from, counted from 1."""
    read_side: ReadSideId
    shard: Shard
    envelope: EventEnvelope
    began: int
    """Its place among all beginnings and ends of deliveries."""
    ended: int | None = None
    outcome: Outcome = Outcome.UNDER_WAY

    @property
    def entity_id(self) -> EntityId:
        """Whose event it was."""
        return self.envelope.meta.entity_id

    @property
    def revision(self) -> Revision:
        """Its place in the entity's history, by the journal's key."""
        return self.envelope.sequence_number


@dataclass(slots=True)
class _Plant:
    """Something that is to happen to certain deliveries."""

    entity_id: EntityId | None
    revision: int | None
    error: Exception | None
    gate: asyncio.Event | None
    times_left: float

    def concerns(self, attempt: Attempt) -> bool:
        return (
            self.times_left > 0
            and self.entity_id in (None, attempt.entity_id)
            and self.revision in (None, attempt.revision)
        )


class RecordingReadHandler:
    """A ReadHandler that confirms everything it is not told to fail."""

    def __init__(self, before: Callable[[Attempt], Awaitable[None]] | None = None) -> None:
        self.attempts: list[Attempt] = []
        """Every delivery, in the order they began."""
        self.under_way = 0
        self.most_at_once = 0
        self._before = before
        self._plants: list[_Plant] = []
        self._life = 1
        self._events = 0

    def fail(
        self,
        entity_id: str | None = None,
        revision: int | None = None,
        times: float = float("inf"),
        error: Exception | None = None,
    ) -> None:
        """Fail these deliveries (all of them, where nothing is given), so many times."""
        planted = error or DeliveryFailed("planted")
        self._plants.append(_Plant(_entity(entity_id), revision, planted, None, times))

    def hang(self, entity_id: str | None = None, revision: int | None = None) -> asyncio.Event:
        """Let these deliveries hang until the event answered is set; then they are confirmed."""
        gate = asyncio.Event()
        self._plants.append(_Plant(_entity(entity_id), revision, None, gate, float("inf")))
        return gate

    def heal(self) -> None:
        """From now on confirm everything. What hangs goes on hanging."""
        self._plants.clear()

    def begin_life(self) -> None:
        """What comes from now on, comes from another run of the read side."""
        self._life += 1

    def confirmed(self, entity_id: str | None = None) -> list[int]:
        """The revisions confirmed, of this entity or of all, in the order their deliveries began."""
        return [
            attempt.revision
            for attempt in self.attempts
            if attempt.outcome is Outcome.CONFIRMED and entity_id in (None, attempt.entity_id)
        ]

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        """Write the delivery down, and let happen to it what is planted."""
        attempt = Attempt(self._life, read_side, shard, envelope, self._tick())
        self.attempts.append(attempt)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self._meet(attempt)
        except BaseException:
            attempt.outcome = Outcome.FAILED
            raise
        else:
            attempt.outcome = Outcome.CONFIRMED
        finally:
            attempt.ended = self._tick()
            self.under_way -= 1

    async def _meet(self, attempt: Attempt) -> None:
        if self._before is not None:
            await self._before(attempt)
        for plant in self._plants:
            if plant.concerns(attempt):
                plant.times_left -= 1
                if plant.gate is not None:
                    await plant.gate.wait()
                if plant.error is not None:
                    raise plant.error

    def _tick(self) -> int:
        self._events += 1
        return self._events


class RecordingBatchHandler(RecordingReadHandler):
    """A BatchReadHandler: what it does not confirm as a whole, it has not handled at all."""

    def __init__(self, batch: int, before: Callable[[Attempt], Awaitable[None]] | None = None) -> None:
        super().__init__(before)
        self.batch = batch
        self.calls: list[int] = []
        """How many events each call brought."""

    async def handle_many(self, read_side: ReadSideId, events: Sequence[tuple[Shard, EventEnvelope]]) -> None:
        """Write them down, an entity's one after the other, as if each were over when the next begins."""
        self.calls.append(len(events))
        attempts: list[Attempt] = []
        try:
            for shard, envelope in events:
                attempt = Attempt(self._life, read_side, shard, envelope, self._tick())
                attempts.append(attempt)
                await self._meet(attempt)
                attempt.ended = self._tick()
        except BaseException:
            # Nothing has happened: only that each entity's first event was tried.
            attempts = list({attempt.entity_id: attempt for attempt in reversed(attempts)}.values())
            for attempt in attempts:
                attempt.outcome, attempt.ended = Outcome.FAILED, attempt.ended or self._tick()
            raise
        else:
            for attempt in attempts:
                attempt.outcome = Outcome.CONFIRMED
        finally:
            self.attempts += attempts


def faults_in(attempts: Iterable[Attempt], histories: Mapping[EntityId, int]) -> list[str]:
    """
    Everything wrong with these deliveries; nothing is when the list is empty.

    `histories` says how many events each entity has. First deliveries must be exactly revisions
    1..n, each begun only after its predecessor was confirmed, each confirmed in the end. Within
    one life an entity's deliveries never overlap, and never go back to an earlier revision.
    """
    by_entity: dict[EntityId, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_entity[attempt.entity_id].append(attempt)
    faults = [f"{entity_id}: delivered but unknown" for entity_id in by_entity if entity_id not in histories]
    for entity_id, length in histories.items():
        deliveries = sorted(by_entity[entity_id], key=lambda attempt: attempt.began)
        found = [
            *_faults_of_first_deliveries(deliveries, length),
            *_faults_of_order(deliveries),
            *_faults_of_each_life(deliveries),
        ]
        faults += [f"{entity_id}: {fault}" for fault in found]
    return faults


def _faults_of_first_deliveries(deliveries: list[Attempt], length: int) -> list[str]:
    faults = []
    first_ones = list(dict.fromkeys(attempt.revision for attempt in deliveries))
    if first_ones != list(range(1, length + 1)):
        faults.append(f"first deliveries are {first_ones}, not 1..{length}")
    confirmed = {attempt.revision for attempt in deliveries if attempt.outcome is Outcome.CONFIRMED}
    faults += [f"revision {revision} never confirmed" for revision in first_ones if revision not in confirmed]
    return faults


def _faults_of_order(deliveries: list[Attempt]) -> list[str]:
    """An event is handed over for the first time only when its predecessor is confirmed."""
    confirmed_at: dict[int, int] = {}
    for attempt in deliveries:
        if attempt.outcome is Outcome.CONFIRMED and attempt.ended is not None:
            confirmed_at.setdefault(attempt.revision, attempt.ended)
    return [
        f"revision {attempt.revision} begun before {attempt.revision - 1} was confirmed"
        for attempt in deliveries
        if attempt.revision > 1 and confirmed_at.get(attempt.revision - 1, attempt.began) >= attempt.began
    ]


def _faults_of_each_life(deliveries: list[Attempt]) -> list[str]:
    faults = []
    for earlier, later in pairwise(deliveries):
        if earlier.life != later.life:
            continue
        if earlier.ended is None or earlier.ended > later.began:
            faults.append(f"revision {later.revision} begun while {earlier.revision} was under way")
        following = earlier.revision + (earlier.outcome is Outcome.CONFIRMED)
        if later.revision != following:
            faults.append(f"revision {later.revision} follows {earlier.revision}, where {following} was due")
    return faults


def _entity(entity_id: str | None) -> EntityId | None:
    return None if entity_id is None else EntityId(entity_id)
