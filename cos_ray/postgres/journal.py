"""
The journal in Postgres: appends, the newest event of an entity, and a shard's events in order.

Only puts the parts together: `rows` and `group_commit` gather what is to be stored, `writer` stores
it, `lookups`, `standings` and `connections` read, `snapshots` saves states behind everyone's back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from google.protobuf.message import DecodeError

from cos_ray.domain.errors import HistoryWentBack, JournalUnavailable, UnreadableEvent
from cos_ray.domain.ids import (
    CommandId,
    EntityId,
    IdempotencyKey,
    Offset,
    Revision,
    Shard,
    fault_of_entity_id,
    fault_of_idempotency_key,
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
from cos_ray.domain.retention import Retention
from cos_ray.domain.trace_ids import cause_of
from cos_ray.domain.type_changes import Precedent, TypeChange
from cos_ray.ports import NOTHING_KNOWN, JournalMeter, UnmeasuredJournal
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.database import Database
from cos_ray.postgres.erasure import PostgresErasure
from cos_ray.postgres.group_commit import BatchLimits, GroupCommit
from cos_ray.postgres.history_queries import HistoryQueries
from cos_ray.postgres.identities import identity, known_row, known_rows
from cos_ray.postgres.key_expiry import KeyExpiry
from cos_ray.postgres.lookups import NewestLookups
from cos_ray.postgres.newest_revisions import NewestRevisions
from cos_ray.postgres.paging import read_page
from cos_ray.postgres.rights import Use, fault_of_rights, question
from cos_ray.postgres.rows import LARGEST_APPEND, LARGEST_EVENT, encode
from cos_ray.postgres.snapshots import Snapshots
from cos_ray.postgres.statements import statement
from cos_ray.postgres.tail import PostgresTail
from cos_ray.postgres.type_changes import TypeChanges
from cos_ray.postgres.writer import KEY_TTL, SETTLE_WITHIN, Writer
from cos_ray.protocol.codec import envelope_from_bytes

_MOST_WRITERS = 2
"""Batches on their way at once when one is slow. More only compete for the log's flush and the locks."""

_WALKS = {"enable_sort": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""What is read is read by walking an index in its order, whatever the planner believes of the data."""

_CLOSE_WITHIN = timedelta(seconds=10)

_UNMEASURED = UnmeasuredJournal()


class PostgresJournal:
    """
    `Journal` and `EventSource` on Chief of State's tables, which `migrate` has to have made.

    Belongs to the event loop it is opened in. Opens whether the database is there or not, and finds
    it again by itself.
    """

    def __init__(
        self,
        database: Database,
        *,
        settle_within: timedelta = SETTLE_WITHIN,
        limits: BatchLimits | None = None,
        largest_append: int = LARGEST_APPEND,
        largest_event: int = LARGEST_EVENT,
        retention: Retention | None = None,
        key_ttl: timedelta = KEY_TTL,
        deletes_expired_keys: bool = False,
        meter: JournalMeter = _UNMEASURED,
    ) -> None:
        """
        `settle_within`: how long a lost append is asked about before OutcomeUnknown;
        `largest_append`: bytes of all events and states of one command; `largest_event`: of one event,
        its state and its metadata; `retention`: when to write snapshots of what is appended here, None
        for never; `key_ttl`: how long idempotency keys are remembered; `deletes_expired_keys`: whether
        this one sees to that.
        """
        writers = max(1, min(_MOST_WRITERS, database.pool_max_size - 1))
        # Reading has connections of its own: a slow read never holds up an append.
        readers = max(1, database.pool_max_size - writers)
        self._database = database
        self._largest_append, self._largest_event = largest_append, largest_event
        self._writers = [Writer(database, settle_within, key_ttl) for _ in range(writers)]
        self._group_commit = GroupCommit(
            [writer.store for writer in self._writers], limits or BatchLimits(), meter
        )
        self._connections = Connections(
            database, at_least=database.pool_min_size, at_most=readers, session=_WALKS
        )
        self._lookups = NewestLookups(self._connections)
        self._standings = NewestRevisions(self._connections)
        self.tail = PostgresTail(self._connections)
        """The journal as subscriptions see it."""
        self.past = HistoryQueries(self._connections)
        """What was when, and which entities there are."""
        self.eraser = PostgresErasure(self._connections)
        """Removes what erased entities were."""
        self._type_changes = TypeChanges(self._connections, meter)
        self._key_expiry = KeyExpiry(self._connections) if deletes_expired_keys else None
        self._snapshots = Snapshots(retention, self._connections) if retention is not None else None

    async def open(self) -> None:
        """Start; does not wait for the database."""
        await self._connections.open()
        if self._key_expiry is not None:
            self._key_expiry.start()
        if self._snapshots is not None:
            self._snapshots.start()

    async def close(self) -> None:
        """Store what was accepted, for ten seconds at most, and let go of everything."""
        await self._group_commit.stop(_CLOSE_WITHIN)
        if self._key_expiry is not None:
            await self._key_expiry.stop()
        if self._snapshots is not None:
            await self._snapshots.close()
        await self._type_changes.close()
        await self._lookups.close()
        await self._standings.close()
        for writer in self._writers:
            await writer.close()
        await self._connections.close()

    @property
    def waiting_appends(self) -> int:
        """How many appends have not been answered."""
        return self._group_commit.waiting

    async def append(self, append: Append) -> Offset:
        """See `Journal.append`. Also raises JournalUnavailable when too many appends wait."""
        offset = await self._group_commit.append(encode(append, self._largest_append, self._largest_event))
        if append.envelopes and self._snapshots is not None:
            self._snapshots.note(append)
        for envelope in append.envelopes:
            if envelope.passed_change is not None:
                self._type_changes.note(envelope)
        return offset

    async def newest(self, entity_id: EntityId) -> EventEnvelope | None:
        """See `Journal.newest`."""
        if fault_of_entity_id(entity_id):
            return None
        row = await self._lookups.newest(entity_id)
        return None if row is None else _envelope(entity_id, *row)

    async def standing(self, entity_id: EntityId, key: IdempotencyKey | None) -> NewestRevision:
        """See `Journal.standing`."""
        if fault_of_entity_id(entity_id) or (key is not None and fault_of_idempotency_key(key)):
            return NewestRevision(Revision(0), key_is_known=False)
        return await self._standings.standing(entity_id, key)

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | None:
        """See `Journal.stored_by`."""
        if fault_of_entity_id(entity_id):
            return None
        rows = await self._connections.run(
            statement("stored_by"), {"entity_id": entity_id, "command_id": command_id}
        )
        for sequence_number, payload in rows:
            return _envelope(entity_id, Revision(sequence_number), payload)
        return None

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey]:
        """See `Journal.keys`."""
        if fault_of_entity_id(entity_id):
            return ()
        rows = await self._connections.run(statement("keys"), {"entity_id": entity_id, "limit": limit})
        return [IdempotencyKey(key) for (key,) in rows]

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
        """See `Journal.remembered`."""
        if fault_of_entity_id(entity_id) or fault_of_idempotency_key(key):
            return None
        rows = await self._connections.run(statement("remembered"), {"entity_id": entity_id, "key": key})
        for number, payload in rows:
            revision = Revision(number)
            return Remembered(revision, None if payload is None else _envelope(entity_id, revision, payload))
        return None

    async def precedent(self, change: TypeChange) -> Precedent:
        """See `Journal.precedent`."""
        return await self._type_changes.precedent(change)

    async def after(
        self, shard: Shard, offset: Offset, limit: int, known: RowIdentity | None = None
    ) -> Page[JournaledEvent]:
        """
        See `EventSource.after`. Rows that Chief of State marked as deleted are left out.

        What cannot be read is not stepped over: the answer ends before it, or UnreadableEvent is
        raised if it comes first.
        """
        while True:
            parameters = {"tag": str(shard), "offset": offset, "limit": limit, **known_row(known)}
            rows = _insist(shard, await read_page(self._connections, statement("after"), parameters))
            found: Page[JournaledEvent] = Page(has_more=rows.has_more)
            for row in rows:
                if row[2] is None:
                    continue
                try:
                    found.append(_journaled(*row))
                except UnreadableEvent:
                    if found:
                        found.has_more = True
                        return found
                    raise
            if found or not rows.has_more:
                return found
            # All of them were marked as deleted.
            offset = Offset(rows[-1][0])

    async def stirring(
        self, offsets: Mapping[Shard, Offset], known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN
    ) -> Collection[Shard]:
        """See `EventSource.stirring`."""
        shards = sorted(offsets)
        tags, reached = [str(shard) for shard in shards], [offsets[shard] for shard in shards]
        parameters = {"tags": tags, "offsets": reached, **known_rows([known.get(shard) for shard in shards])}
        rows = await self._connections.run(statement("stirring"), parameters)
        return {Shard(int(tag)) for (tag,) in rows}

    async def erased_of(self, entity_ids: Collection[EntityId]) -> Collection[EntityId]:
        """See `EventSource.erased_of`."""
        return await self.eraser.erased_of(entity_ids)

    async def history(self, entity_id: EntityId, first: Revision, limit: int) -> Page[EventEnvelope]:
        """See `History.history`."""
        if fault_of_entity_id(entity_id):
            return Page()
        parameters = {"entity_id": entity_id, "first": first, "limit": limit}
        rows: Page[Any] = await read_page(self._connections, statement("history"), parameters)
        found = (_envelope(entity_id, Revision(number), payload) for number, payload in rows)
        return Page(found, has_more=rows.has_more)

    async def at(self, entity_id: EntityId, revision: Revision) -> EventEnvelope | None:
        """See `History.at`."""
        if fault_of_entity_id(entity_id):
            return None
        parameters = {"entity_id": entity_id, "revision": revision}
        rows = await self._connections.run(statement("at_revision"), parameters)
        return _envelope(entity_id, Revision(rows[0][0]), rows[0][1]) if rows else None

    async def check(self) -> None:
        """Return if the database answers, and lets us do what commands need. Raises JournalUnavailable."""
        asked = question(self._database.schema, {Use.SERVING})
        rows = await self._connections.run(statement("lacking_rights"), asked)
        if (fault := fault_of_rights(rows, self._database)) is not None:
            raise JournalUnavailable(fault)


def _insist(shard: Shard, rows: Page[Any]) -> Page[Any]:
    """The rows of `after` with events. Raises HistoryWentBack when they say that the known one is lost."""
    if not rows[0][-1]:
        raise HistoryWentBack([shard])
    return Page() if rows[0][0] is None else rows


def _journaled(
    ordering: int,
    number: int,
    payload: bytes,
    writer: str | None,
    entity_id: str,
    written_at: int | None,
    _: bool,
) -> JournaledEvent:
    """The event of a row of `after`. Raises UnreadableEvent."""
    try:
        envelope = _envelope(f"the entity at offset {ordering}", Revision(number), payload)
    except JournalUnavailable as error:
        raise UnreadableEvent(str(error), Offset(ordering)) from error
    if writer is not None:
        envelope = replace(envelope, cause=cause_of(writer))
    return JournaledEvent(Offset(ordering), envelope, identity(ordering, entity_id, number, written_at))


def _envelope(place: str, sequence_number: Revision, payload: bytes) -> EventEnvelope:
    """The event of a row. Raises JournalUnavailable: in a journal taken over it may be encrypted, say."""
    try:
        return envelope_from_bytes(sequence_number, payload)
    except DecodeError as error:
        raise JournalUnavailable(f"event {sequence_number} of {place} is no EventWrapper") from error
