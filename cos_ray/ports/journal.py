"""The journal, as each of those sees it who append to it or read it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from cos_ray.domain.erasure import Erasure
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset, Revision, Shard
from cos_ray.domain.listing import Listing
from cos_ray.domain.messages import (
    Append,
    EventEnvelope,
    JournaledEvent,
    NewestRevision,
    Remembered,
    RowIdentity,
)
from cos_ray.domain.pages import Page
from cos_ray.domain.type_changes import Precedent, TypeChange
from cos_ray.domain.watermark import JournalHead, UnreadableRow

NOTHING_KNOWN: Mapping[Shard, RowIdentity] = {}
"""For who has read nothing yet."""


class Journal(Protocol):
    """Where events are kept: the only truth."""

    async def append(self, append: Append) -> Offset:
        """
        Store all of the command's events, or none; answer with the last one's offset (0: no events).

        Asking again for what is already stored by the same command, byte for byte, succeeds;
        with a key it raises KeyKnown, as for any command with a key that is remembered: then
        `remembered` has the answer. Also raises RevisionConflict when the entity is not at
        `append.expected`, EventRefused when the journal can never take it, JournalUnavailable
        when nothing was stored, and OutcomeUnknown when that cannot be told.
        """
        ...

    async def newest(self, entity_id: EntityId) -> EventEnvelope | None:
        """The entity's newest event; None if it has none. Raises JournalUnavailable."""
        ...

    async def standing(self, entity_id: EntityId, key: IdempotencyKey | None) -> NewestRevision:
        """
        Where the entity stands, as of a moment after the question; both parts as of the same one.

        Without a key, none is known. Raises JournalUnavailable.
        """
        ...

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | None:
        """
        The last event this command led to; None if it led to none that is stored.

        Looks at the entity's newest 5,000 events, which is far more than can happen within the
        time of one command. Raises JournalUnavailable.
        """
        ...

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey]:
        """The entity's keys that have not expired, so many at most. Raises JournalUnavailable."""
        ...

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
        """What the key led to; None if it is unknown or has expired. Raises JournalUnavailable."""
        ...

    async def precedent(self, change: TypeChange) -> Precedent:
        """
        Whether the journal holds this change of types already. Raises JournalUnavailable.

        It knows what appends have told (`EventEnvelope.passed_change`), and of what was there before
        them what its newest events show.
        """
        ...


class EventSource(Protocol):
    """The journal as read sides see it: shard by shard, in order, nothing skipped."""

    async def after(
        self, shard: Shard, offset: Offset, limit: int, known: RowIdentity | None = None
    ) -> Page[JournaledEvent]:
        """
        The shard's next events after the offset, in rising order: so many at most, and about
        PAGE_OCTETS, as in every page of events; one, however large, if there is any.

        `known`: the event that was read last. Raises HistoryWentBack when that one was not deleted and is
        not there any more; JournalUnavailable; as UnreadableEvent when the next event is none that can be
        read.
        """
        ...

    async def stirring(
        self, offsets: Mapping[Shard, Offset], known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN
    ) -> Collection[Shard]:
        """
        Those of the shards that have events after their offset, or lack the event that was read last.

        Raises JournalUnavailable.
        """
        ...

    async def erased_of(self, entity_ids: Collection[EntityId]) -> Collection[EntityId]:
        """
        Those of the entities of which is on record that they are erased. Raises JournalUnavailable.

        Each of them has come to its last event, and what its earlier ones said is handed out no more.
        """
        ...


class History(Protocol):
    """The journal as those see it who ask for an entity's past. Revisions are sequence numbers here."""

    async def history(self, entity_id: EntityId, first: Revision, limit: int) -> Page[EventEnvelope]:
        """The entity's events from the first one named, in order. Raises JournalUnavailable."""
        ...

    async def at(self, entity_id: EntityId, revision: Revision) -> EventEnvelope | None:
        """
        The event that brought the entity to this revision, with the state it then had.

        None if it has not come so far, or the event is deleted for good. Raises JournalUnavailable.
        """
        ...


class EntityPast(Protocol):
    """What was when, and which entities there are. All of it raises JournalUnavailable."""

    async def at_time(self, entity_id: EntityId, moment: datetime) -> EventEnvelope | None:
        """The entity's newest event that is not dated later."""
        ...

    async def entities(self, prefix: str, after: str, limit: int) -> Listing:
        """Entities whose ids begin so, after the place named, in the order of their ids' UTF-8 bytes."""
        ...

    async def offset_at(self, moment: datetime) -> Offset | None:
        """
        The lowest offset of an event that was stored since then; None if there is none.

        Nothing that is being stored meanwhile is given a lower one.
        """
        ...

    async def changed(self, prefix: str, since: datetime, after: Offset, limit: int) -> Listing:
        """
        Entities with an event stored since then, whose newest lies after the offset, in their order.

        As of a moment at which all that lies before its end was committed, however long that took.
        """
        ...


class Eraser(Protocol):
    """Removes what is kept of an entity that has come to its last event. All raises JournalUnavailable."""

    async def remove(self, entity_id: EntityId, reason: str, caller: str | None) -> Erasure:
        """
        Put it on record, and remove all that its events said. May be repeated, and then does it again.

        Returns when no process hands out any more what it may still have in memory (`KNOWN_WITHIN`).
        """
        ...


class JournalTail(Protocol):
    """The journal as one sequence of events over all shards, in the order of their offsets."""

    # `known` is the event that was read last: when it was not deleted and is not there any more,
    # HistoryWentBack is raised, by `between` and `of_entity` if there are events to answer with.

    async def head(self, known: RowIdentity | None = None) -> JournalHead:
        """Where the journal ends, and who is writing at it. Raises JournalUnavailable."""
        ...

    async def between(
        self,
        after: Offset,
        up_to: Offset,
        limit: int,
        known: RowIdentity | None = None,
        *,
        whole: bool = False,
    ) -> Page[JournaledEvent | UnreadableRow]:
        """
        Events after the one offset and up to the other, in order. Raises JournalUnavailable.

        `whole`: raise EventsDeleted, if there are events to answer with, and some after the first offset
        are known to be deleted.
        """
        ...

    async def of_entity(
        self,
        entity_id: EntityId,
        first: Revision,
        up_to: Offset,
        limit: int,
        known: RowIdentity | None = None,
    ) -> Page[JournaledEvent | UnreadableRow]:
        """
        An entity's events from one sequence number on, up to an offset, in order.

        Raises JournalUnavailable.
        """
        ...

    async def still_there(self, rows: Collection[RowIdentity]) -> Collection[Offset]:
        """The offsets of those events that are there, or were deleted. Raises JournalUnavailable."""
        ...
