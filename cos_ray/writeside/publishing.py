"""A journal that tells read sides of what it stores."""

from __future__ import annotations

from collections.abc import Collection

from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset
from cos_ray.domain.messages import Append, EventEnvelope, NewestRevision, Remembered
from cos_ray.domain.type_changes import Precedent, TypeChange
from cos_ray.ports import Journal, Publisher


class PublishingJournal:
    """`Journal`, and a word to the publisher after each append."""

    def __init__(self, journal: Journal, publisher: Publisher) -> None:
        self._journal = journal
        self._publisher = publisher

    async def append(self, append: Append) -> Offset:
        """Like `Journal.append`."""
        offset = await self._journal.append(append)
        if append.envelopes:
            self._publisher.appended([append.shard])
        return offset

    async def newest(self, entity_id: EntityId) -> EventEnvelope | None:
        """Like `Journal.newest`."""
        return await self._journal.newest(entity_id)

    async def standing(self, entity_id: EntityId, key: IdempotencyKey | None) -> NewestRevision:
        """Like `Journal.standing`."""
        return await self._journal.standing(entity_id, key)

    async def stored_by(self, entity_id: EntityId, command_id: CommandId) -> EventEnvelope | None:
        """Like `Journal.stored_by`."""
        return await self._journal.stored_by(entity_id, command_id)

    async def keys(self, entity_id: EntityId, limit: int) -> Collection[IdempotencyKey]:
        """Like `Journal.keys`."""
        return await self._journal.keys(entity_id, limit)

    async def remembered(self, entity_id: EntityId, key: IdempotencyKey) -> Remembered | None:
        """Like `Journal.remembered`."""
        return await self._journal.remembered(entity_id, key)

    async def precedent(self, change: TypeChange) -> Precedent:
        """Like `Journal.precedent`."""
        return await self._journal.precedent(change)
