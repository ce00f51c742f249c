"""
Events that are stepped over: put down before they are, so that nobody takes them for handled.

They lie behind the offset like those that were confirmed. One that is delivered after all, because an
operator replays it, is forgotten here.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from cos_ray.domain.errors import CosError
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, Revision, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.ports import DeadLetters

logger = logging.getLogger(__name__)


class Skips:
    """Those of one read side, as its process needs to know them."""

    def __init__(self, read_side: ReadSideId, owner: Owner, letters: DeadLetters) -> None:
        self._read_side = read_side
        self._owner = owner
        self._letters = letters
        self._delivered_again: dict[tuple[Shard, EntityId], set[Revision]] = {}
        """Of entities that are replayed, the events that were stepped over."""

    async def begin(self, offsets: Mapping[Shard, Offset]) -> None:
        """Deliver what comes after these offsets, whatever became of it before. Raises JournalUnavailable."""
        await self._letters.forget_skipped_after(self._read_side, offsets, self._owner)

    async def add(self, shard: Shard, event: JournaledEvent) -> None:
        """The event is going to be stepped over. Raises JournalUnavailable, and ClaimLost."""
        await self._letters.skip(self._read_side, shard, event, self._owner)

    async def take_back(self, shard: Shard, event: JournaledEvent) -> None:
        """It is not stepped over after all. Never raises."""
        await self._forget(shard, event.envelope.meta.entity_id, [event.envelope.sequence_number])

    async def repeat(self, shard: Shard, entity_id: EntityId) -> None:
        """The entity's events are going to be delivered again. Raises JournalUnavailable."""
        if skipped := await self._letters.skipped_of(self._read_side, entity_id):
            self._delivered_again[shard, entity_id] = set(skipped)

    async def confirmed(self, shard: Shard, events: Collection[JournaledEvent]) -> None:
        """These were handled. Costs nothing unless an entity is replayed; never raises."""
        if not self._delivered_again:
            return
        for event in events:
            entity_id, revision = event.envelope.meta.entity_id, event.envelope.sequence_number
            skipped = self._delivered_again.get((shard, entity_id), set())
            if revision in skipped:
                skipped.remove(revision)
                await self._forget(shard, entity_id, [revision])
                if not skipped:
                    self._delivered_again.pop((shard, entity_id), None)

    async def _forget(self, shard: Shard, entity_id: EntityId, revisions: Collection[Revision]) -> None:
        # At worst one that was handled is taken for not handled, and not the other way round.
        try:
            await self._letters.forget_skipped(self._read_side, shard, entity_id, revisions, self._owner)
        except CosError as error:
            facts = {"read_side": self._read_side, "entity_id": entity_id, "reason": str(error)}
            logger.warning("an event stays on record as skipped though it was handled", extra=facts)
