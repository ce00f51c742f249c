"""A journal in memory, which fails when told to."""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import islice, pairwise

from cos_ray.domain.erasure import redacted
from cos_ray.domain.errors import (
    EventRefused,
    EventsDeleted,
    HistoryWentBack,
    JournalUnavailable,
    KeyKnown,
    OutcomeUnknown,
    RevisionConflict,
)
from cos_ray.domain.ids import (
    CommandId,
    EntityId,
    IdempotencyKey,
    Offset,
    Revision,
    Shard,
    fault_of_entity_id,
)
from cos_ray.domain.messages import (
    Append,
    EventEnvelope,
    JournaledEvent,
    NewestRevision,
    Remembered,
    RowIdentity,
)
from cos_ray.domain.pages import Page
from cos_ray.domain.trace_ids import cause_of
from cos_ray.domain.type_changes import Precedent, TypeChange
from cos_ray.domain.types import change_between
from cos_ray.domain.watermark import JournalHead
from cos_ray.ports import NOTHING_KNOWN
from cos_ray.testing.pages import page_of

_LOOKS_BACK = 5_000


class Fault(Enum):
    """What can befall an append."""

    CONFLICT = auto()
    """Another writer was faster, or so the journal says; nothing is stored."""
    UNAVAILABLE = auto()
    """Nothing is stored, and the writer is told so."""
    REFUSED = auto()
    """The journal cannot take the event; nothing is stored."""
    UNKNOWN_BUT_STORED = auto()
    """It is stored, and the writer is not told so."""
    UNKNOWN_AND_NOT_STORED = auto()
    """It is not stored, and the writer is not told so."""
    UNKNOWN_AND_LATE = auto()
    """The writer is told nothing; it is stored when the test calls `land_late`, if it still can be then."""


@dataclass(slots=True)
class _Row:
    offset: Offset
    shard: Shard
    command_id: CommandId
    envelope: EventEnvelope
    deleted: bool = False
    history: int = 0

    @property
    def identity(self) -> RowIdentity:
        """What tells it from others at its offset."""
        meta = self.envelope.meta
        return RowIdentity(self.offset, meta.entity_id, self.envelope.sequence_number, self.history)


class MemoryJournal:
    """`Journal` and `EventSource` in one process."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._of_entity: dict[EntityId, list[_Row]] = {}
        self._keys: dict[EntityId, dict[IdempotencyKey, Revision]] = {}
        self._last_offset = 0
        self._deleted: list[_Row] = []
        self._history = 0
        """How often it went back."""
        self._shards: dict[Shard, asyncio.Lock] = {}
        self._writing: dict[Shard, int] = {}
        self._writes = 0
        self._faults: deque[Fault] = deque()
        self._late: list[Append] = []
        self.reachable = True
        """While False, every call raises JournalUnavailable."""
        self.appends: list[Append] = []
        """Every append asked for, in order, whatever became of it."""
        self.is_taken_over = False
        """Whether it passes for a journal that Chief of State has written to."""
        self.erased: set[EntityId] = set()
        """The entities that are on record as erased."""

    def plant(self, *faults: Fault) -> None:
        """Let these befall the next appends, one each."""
        self._faults.extend(faults)

    def plant_nothing(self) -> None:
        """Let nothing befall the next appends."""
        self._faults.clear()

    def mark_deleted(self, entity_id: EntityId, up_to: Revision) -> None:
        """Mark an entity's events as deleted, as Chief of State does; their numbers still count."""
        for row in self._of_entity.get(entity_id, ()):
            row.deleted = row.deleted or row.envelope.sequence_number <= up_to

    def redact(self, entity_id: EntityId) -> None:
        """Put an entity that has come to its end on record as erased; its events say nothing any more."""
        self.erased.add(entity_id)
        for row in self._of_entity.get(entity_id, ()):
            row.envelope = redacted(row.envelope)

    def delete(self, entity_id: EntityId, up_to: Revision) -> None:
        """Delete an entity's events for good, as retention does: never its newest one."""
        rows = self._of_entity.get(entity_id, [])
        gone = [row for row in rows[:-1] if row.envelope.sequence_number <= up_to]
        self._deleted = sorted([*self._deleted, *gone], key=_offset_of)
        self._of_entity[entity_id] = rows[len(gone) :]
        self._rows = [row for row in self._rows if row not in gone]

    def go_back(self, offset: Offset) -> None:
        """Be an older journal, without what comes after the offset; the same offsets are given anew."""
        self._history += 1
        self._last_offset = offset
        self._rows = [row for row in self._rows if row.offset <= offset]
        of_entity = {id_: [r for r in rows if r.offset <= offset] for id_, rows in self._of_entity.items()}
        self._of_entity = {id_: rows for id_, rows in of_entity.items() if rows}

    def expire_keys(self) -> None:
        """Let the time of every key be over."""
        self._keys.clear()

    async def append(self, append: Append) -> Offset:
        """See `Journal.append`."""
        self.appends.append(append)
        await self._be_asked()
        _refuse_what_no_journal_takes(append)
        fault = self._faults.popleft() if self._faults else None
        if fault is Fault.CONFLICT:
            raise RevisionConflict(append.entity_id, append.expected)
        if fault is Fault.UNAVAILABLE:
            raise JournalUnavailable("as planted")
        if fault is Fault.REFUSED:
            raise EventRefused("as planted")
        if fault is Fault.UNKNOWN_AND_NOT_STORED:
            raise OutcomeUnknown("as planted")
        if fault is Fault.UNKNOWN_AND_LATE:
            self._late.append(append)
            raise OutcomeUnknown("as planted")
        async with self._only_writer_of(append.shard):
            offset = self._store(append)
        if fault is Fault.UNKNOWN_BUT_STORED:
            raise OutcomeUnknown("as planted")
        return offset

    def land_late(self) -> int:
        """Store what was to be stored late, as far as its entity is still where it was; how many were."""
        late, self._late = self._late, []
        landed = 0
        for append in late:
            with suppress(RevisionConflict, KeyKnown):
                self._store(append)
                landed += 1
        return landed

    @asynccontextmanager
    async def committing_late(self, append: Append) -> AsyncIterator[Offset]:
        """
        Let another writer be in the middle of this append within the block, and through with it after.

        Its offsets are given and no one sees its events; whoever appends in its shard waits.
        """
        async with self._only_writer_of(append.shard):
            self._refuse_conflict(append)
            rows = self._allocate(append)
            self._writes += 1
            self._writing[append.shard] = self._writes
            try:
                yield rows[-1].offset
                self._show(rows)
            finally:
                del self._writing[append.shard]

    async def newest(self, entity_id: EntityId) -> EventEnvelope | None:
        """See `Journal.newest`."""
        await self._be_asked()
        rows = self._of_entity.get(entity_id)
        return rows[-1].envelope if rows else None

    async def standing(self, entity_id: EntityId, key: IdempotencyKey | None) -> NewestRevision:
        """See `Journal.standing`."""
        await self._be_asked()
        rows = self._of_entity.get(entity_id)
        newest = rows[-1].envelope.sequence_number if rows else Revision(0)
        return NewestRevision(newest, key in self._keys.get(entity_id, ()))

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | None:
        """See `Journal.stored_by`."""
        await self._be_asked()
        for row in islice(reversed(self._of_entity.get(entity_id, ())), _LOOKS_BACK):
            if row.command_id == command_id:
                return row.envelope
        return None

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey]:
        """See `Journal.keys`."""
        await self._be_asked()
        return list(self._keys.get(entity_id, ()))[:limit]

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
        """See `Journal.remembered`."""
        await self._be_asked()
        number = self._keys.get(entity_id, {}).get(key)
        if number is None:
            return None
        rows = self._of_entity.get(entity_id, ())
        found = (row.envelope for row in rows if row.envelope.sequence_number == number)
        return Remembered(number, next(found, None))

    async def precedent(self, change: TypeChange) -> Precedent:
        """See `Journal.precedent`."""
        await self._be_asked()
        states = ([row.envelope.resulting_state for row in rows] for rows in self._of_entity.values())
        is_held = any(change_between(*pair) == change for history in states for pair in pairwise(history))
        return Precedent(is_held, self.is_taken_over)

    async def after(
        self, shard: Shard, offset: Offset, limit: int, known: RowIdentity | None = None
    ) -> Page[JournaledEvent]:
        """See `EventSource.after`."""
        await self._be_asked()
        self._require(known)
        first = bisect_right(self._rows, offset, key=_offset_of)
        found = (row for row in self._rows[first:] if row.shard == shard and not row.deleted)
        return page_of((JournaledEvent(row.offset, _with_cause(row), row.identity) for row in found), limit)

    async def stirring(
        self, offsets: Mapping[Shard, Offset], known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN
    ) -> Collection[Shard]:
        """See `EventSource.stirring`."""
        found = {shard for shard, offset in offsets.items() if await self.after(shard, offset, 1)}
        return found | {shard for shard in offsets if shard in known and not self._has(known[shard])}

    async def erased_of(self, entity_ids: Collection[EntityId]) -> Collection[EntityId]:
        """See `EventSource.erased_of`."""
        await self._be_asked()
        return self.erased.intersection(entity_ids)

    async def history(self, entity_id: EntityId, first: Revision, limit: int) -> Page[EventEnvelope]:
        """See `History.history`."""
        await self._be_asked()
        found = (row.envelope for row in self._of_entity.get(entity_id, ()))
        return page_of((envelope for envelope in found if envelope.sequence_number >= first), limit)

    async def at(self, entity_id: EntityId, revision: Revision) -> EventEnvelope | None:
        """See `History.at`."""
        return next(
            (one for one in await self.history(entity_id, revision, 1) if one.sequence_number == revision),
            None,
        )

    async def head(self, known: RowIdentity | None = None) -> JournalHead:
        """See `JournalTail.head`."""
        await self._be_asked()
        self._require(known)
        newest = self._rows[-1].offset if self._rows else Offset(0)
        row = self._rows[-1].identity if self._rows else None
        return JournalHead(newest, {shard: str(write) for shard, write in self._writing.items()}, row)

    async def between(
        self,
        after: Offset,
        up_to: Offset,
        limit: int,
        known: RowIdentity | None = None,
        *,
        whole: bool = False,
    ) -> Page[JournaledEvent]:
        """See `JournalTail.between`."""
        await self._be_asked()
        self._require(known)
        rows = self._rows[bisect_right(self._rows, after, key=_offset_of) :]
        if whole and rows and self._deleted and self._deleted[-1].offset > after:
            raise EventsDeleted(self._deleted[-1].offset)
        found = (row for row in rows if row.offset <= up_to and not row.deleted)
        return page_of((JournaledEvent(row.offset, row.envelope, row.identity) for row in found), limit)

    async def of_entity(
        self,
        entity_id: EntityId,
        first: Revision,
        up_to: Offset,
        limit: int,
        known: RowIdentity | None = None,
    ) -> Page[JournaledEvent]:
        """See `JournalTail.of_entity`."""
        await self._be_asked()
        self._require(known)
        rows = (row for row in self._of_entity.get(entity_id, ()) if row.envelope.sequence_number >= first)
        found = (row for row in rows if row.offset <= up_to and not row.deleted)
        return page_of((JournaledEvent(row.offset, row.envelope, row.identity) for row in found), limit)

    async def still_there(self, rows: Collection[RowIdentity]) -> Collection[Offset]:
        """See `JournalTail.still_there`."""
        await self._be_asked()
        return {row.offset for row in rows if self._has(row)}

    def _has(self, known: RowIdentity) -> bool:
        there = (row.identity for row in self._of_entity.get(known.entity_id, ()))
        return known in there or any(row.identity == known for row in self._deleted)

    def _require(self, known: RowIdentity | None) -> None:
        if known is not None and not self._has(known):
            raise HistoryWentBack

    async def _be_asked(self) -> None:
        # A real journal lets others run meanwhile.
        await asyncio.sleep(0)
        if not self.reachable:
            raise JournalUnavailable("the journal is out of reach, as planted")

    def _only_writer_of(self, shard: Shard) -> asyncio.Lock:
        return self._shards.setdefault(shard, asyncio.Lock())

    def _store(self, append: Append) -> Offset:
        keys = self._keys.setdefault(append.entity_id, {})
        if append.key in keys:
            raise KeyKnown(append.entity_id)
        offset = self._store_events(append)
        if append.key is not None:
            keys[append.key] = Revision(append.expected + len(append.envelopes))
        return offset

    def _store_events(self, append: Append) -> Offset:
        history = self._of_entity.get(append.entity_id, [])
        if not append.envelopes:
            self._refuse_conflict(append)
            return Offset(0)
        there = [row for row in history if row.envelope in append.envelopes]
        if [row.envelope for row in there] == list(append.envelopes):
            if all(row.command_id == append.command_id for row in there):
                return there[-1].offset
            raise RevisionConflict(append.entity_id, append.expected)
        self._refuse_conflict(append)
        rows = self._allocate(append)
        self._show(rows)
        return rows[-1].offset

    def _refuse_conflict(self, append: Append) -> None:
        history = self._of_entity.get(append.entity_id)
        if (history[-1].envelope.sequence_number if history else 0) != append.expected:
            raise RevisionConflict(append.entity_id, append.expected)

    def _allocate(self, append: Append) -> list[_Row]:
        first = self._last_offset + 1
        self._last_offset += len(append.envelopes)
        return [
            _Row(Offset(offset), append.shard, append.command_id, envelope, history=self._history)
            for offset, envelope in enumerate(append.envelopes, start=first)
        ]

    def _show(self, rows: Sequence[_Row]) -> None:
        for row in rows:
            insort(self._rows, row, key=_offset_of)
            self._of_entity.setdefault(row.envelope.meta.entity_id, []).append(row)


def _with_cause(row: _Row) -> EventEnvelope:
    cause = cause_of(row.command_id)
    return row.envelope if cause is None else replace(row.envelope, cause=cause)


def _offset_of(row: _Row) -> Offset:
    return row.offset


def _refuse_what_no_journal_takes(append: Append) -> None:
    if fault := fault_of_entity_id(append.entity_id):
        raise EventRefused(fault)
    numbers = [envelope.sequence_number for envelope in append.envelopes]
    if not (numbers or append.key):
        raise EventRefused("an append without events")
    if numbers != list(range(append.expected + 1, append.expected + 1 + len(numbers))):
        raise EventRefused(f"events numbered {numbers} cannot follow {append.expected}")
