"""
Saves states now and then, and deletes events that this has made dispensable, if wanted.

All of it happens behind the back of commands: an append only leaves a note, one task works
through the notes, and what fails is logged and left, for the next snapshot makes up for it.
Nothing here is needed to recover: Chief of State, should it come back, starts from snapshots.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from dataclasses import dataclass

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import CommandId, EntityId, Revision
from cos_ray.domain.messages import Append, EventEnvelope
from cos_ray.domain.retention import Retention
from cos_ray.postgres.connections import Connections, OutOfStatementTime
from cos_ray.postgres.statements import statement
from cos_ray.protocol.codec import state_to_bytes

logger = logging.getLogger(__name__)

MOST_WAITING = 1_000
"""Snapshots that may wait; beyond that the oldest are given up."""

MOST_WAITING_OCTETS = 64 * 1024 * 1024
"""Bytes of the states that may wait."""

_MOST_TOGETHER = 32
_MOST_OCTETS_TOGETHER = 4 * 1024 * 1024
_MOST_DELETED = 1_000
"""Events deleted in one go, of each entity; fewer where that takes too long."""

_CLOSE_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class _Deletion:
    """What is to be deleted of an entity, and when."""

    entity_id: EntityId
    up_to: Revision
    due: float


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A state to be saved, and which command led to it."""

    envelope: EventEnvelope
    command_id: CommandId


class Snapshots:
    """Writes snapshots on connections that it shares."""

    def __init__(self, retention: Retention, connections: Connections) -> None:
        self._retention = retention
        self._connections = connections
        self._waiting: deque[_Snapshot] = deque()
        self._octets = 0
        self._deletions: deque[_Deletion] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._most_deleted = _MOST_DELETED

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name="journal snapshots")

    async def close(self) -> None:
        """Save what waits, for a few seconds; deletions are left to the next snapshot."""
        self._closing = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSE_WITHIN)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note(self, append: Append) -> None:
        """This append has landed. Returns at once, never raises."""
        newest = append.envelopes[-1]
        if not self._retention.wants_snapshot(append.expected, newest.sequence_number):
            return
        self._waiting.append(_Snapshot(newest, append.command_id))
        self._octets += len(newest.resulting_state)
        while len(self._waiting) > MOST_WAITING or self._octets > MOST_WAITING_OCTETS:
            given_up = self._take_first()
            logger.warning("snapshot given up: too many wait", extra=_facts(given_up.envelope))
        self._news.set()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                while self._waiting:
                    await self._save(self._next_batch())
                if self._closing:
                    return
                while due := self._due():
                    await self._delete(due)
            except Exception:
                # A fault of ours: it must not end the snapshots of all other entities.
                logger.exception("a snapshot ended in an unforeseen error")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._rest())

    def _rest(self) -> float | None:
        """Seconds until a deletion falls due; None while there is none."""
        return max(0.0, self._deletions[0].due - time.monotonic()) if self._deletions else None

    def _next_batch(self) -> list[_Snapshot]:
        """The next few, of each entity one: a later one has to find the earlier one saved."""
        batch: dict[EntityId, _Snapshot] = {}
        room: float = math.inf  # the first one goes, whatever its size
        while self._waiting and len(batch) < _MOST_TOGETHER:
            first = self._waiting[0].envelope
            if _entity_of(first) in batch or len(first.resulting_state) > room:
                break
            batch[_entity_of(first)] = self._take_first()
            room = min(room, _MOST_OCTETS_TOGETHER) - len(first.resulting_state)
        return list(batch.values())

    def _take_first(self) -> _Snapshot:
        first = self._waiting.popleft()
        self._octets -= len(first.envelope.resulting_state)
        return first

    async def _save(self, snapshots: list[_Snapshot]) -> None:
        """Save these, in one round trip."""
        batch = [snapshot.envelope for snapshot in snapshots]
        parameters = {
            "entity_ids": [_entity_of(envelope) for envelope in batch],
            "sequence_numbers": [envelope.sequence_number for envelope in batch],
            "payloads": [state_to_bytes(envelope) for envelope in batch],
            "writers": [snapshot.command_id for snapshot in snapshots],
            "keep": self._retention.keep,
        }
        try:
            await self._connections.run(statement("save_snapshots"), parameters)
        except JournalUnavailable as error:
            facts = {**_facts(batch[0]), "snapshots": len(batch), "reason": str(error)}
            logger.warning("snapshots not saved", extra=facts)
            return
        self._plan_deletions(batch)

    def _plan_deletions(self, saved: list[EventEnvelope]) -> None:
        if not self._retention.deletes_events:
            return
        due = time.monotonic() + self._retention.delete_after.total_seconds()
        for envelope in saved:
            if up_to := self._retention.dispensable(envelope.sequence_number):
                self._deletions.append(_Deletion(_entity_of(envelope), up_to, due))

    def _due(self) -> dict[EntityId, Revision]:
        """The deletions that are due, a few at a time."""
        due: dict[EntityId, Revision] = {}
        now = time.monotonic()
        while self._deletions and self._deletions[0].due <= now and len(due) < _MOST_TOGETHER:
            deletion = self._deletions.popleft()
            due[deletion.entity_id] = max(deletion.up_to, due.get(deletion.entity_id, Revision(0)))
        return due

    async def _delete(self, up_tos: dict[EntityId, Revision]) -> None:
        parameters = {
            "entity_ids": list(up_tos),
            "up_tos": list(up_tos.values()),
            "read_sides": list(self._retention.read_sides),
        }
        try:
            # A history taken over may be long: piece by piece, until there is nothing more to delete.
            while await self._delete_some(parameters):
                pass
        except JournalUnavailable as error:
            facts = {"entities": len(up_tos), "reason": str(error)}
            logger.warning("dispensable events not deleted", extra=facts)

    async def _delete_some(self, parameters: dict[str, object]) -> bool:
        """Whether there may be more."""
        try:
            rows = await self._connections.run(
                statement("delete_events"), {**parameters, "most": self._most_deleted}
            )
        except OutOfStatementTime:
            if self._most_deleted == 1:
                raise
            # Large events take long to delete.
            self._most_deleted = max(1, self._most_deleted // 8)
            return True
        self._most_deleted = min(_MOST_DELETED, 2 * self._most_deleted)
        return bool(rows[0][0])


def _entity_of(envelope: EventEnvelope) -> EntityId:
    return envelope.meta.entity_id


def _facts(envelope: EventEnvelope) -> dict[str, object]:
    return {"entity_id": _entity_of(envelope), "revision": envelope.meta.revision}
