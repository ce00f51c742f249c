"""
Events set aside: which entities have any, and how one more is added.

An entity of which one event was set aside gets none of its later ones either: they join it, in
order, until an operator retries or drops them. Nothing is behind the offset before it is stored
here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping

from cos_ray.domain.ids import EntityId, Owner, ReadSideId, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.ports import DeadLetters

FOLLOWS = "follows an event of its entity that was set aside"


class Parking:
    """The dead letters of one read side, as its process knows them."""

    def __init__(self, read_side: ReadSideId, owner: Owner, letters: DeadLetters) -> None:
        self._read_side = read_side
        self._owner = owner
        self._letters = letters
        self._parked: dict[Shard, set[EntityId]] = defaultdict(set)
        self._locks: dict[Shard, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def load(self, shards: Collection[Shard]) -> None:
        """Learn which entities of these shards have dead letters. Raises JournalUnavailable."""
        self.take_in(await self._letters.entities(self._read_side), shards)

    def take_in(self, parked: Mapping[Shard, Collection[EntityId]], shards: Collection[Shard]) -> None:
        """These entities, and no others of these shards, have dead letters."""
        for shard in shards:
            self._parked[shard] = set(parked.get(shard, ()))

    def holds(self, shard: Shard, entity_id: EntityId) -> bool:
        """Whether the entity has dead letters."""
        return entity_id in self._parked[shard]

    async def park(self, shard: Shard, event: JournaledEvent, reason: str, failures: int) -> None:
        """Set an event aside. Raises JournalUnavailable, and ClaimLost unless the shard is ours."""
        async with self._locks[shard]:
            await self._letters.park(self._read_side, shard, event, reason, failures, self._owner)
            self._parked[shard].add(event.envelope.meta.entity_id)

    async def follow(self, shard: Shard, event: JournaledEvent) -> bool:
        """Set aside a later event of the entity, like `park`; False if it has no dead letters any more."""
        async with self._locks[shard]:
            if not self.holds(shard, event.envelope.meta.entity_id):
                return False
            await self._letters.park(self._read_side, shard, event, FOLLOWS, 0, self._owner)
            return True

    async def clear_if_empty(self, shard: Shard, entity_id: EntityId) -> bool:
        """Let the entity's events be delivered again, if none is set aside. Raises JournalUnavailable."""
        async with self._locks[shard]:
            if await self._letters.letters(self._read_side, entity_id, 1):
                return False
            self._parked[shard].discard(entity_id)
            return True
