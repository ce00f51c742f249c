"""
Events set aside: which entities have any, and how one more is added.

An entity of which one event was set aside gets none of its later ones either: they join it, in
order, until an operator retries or drops them. Nothing is behind the offset before it is stored
here. The last event of an entity that is erased is held back by none of those before it: they are
forgotten, and it is delivered.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping
from weakref import WeakValueDictionary

from cos_ray.domain.erasure import says_nothing
from cos_ray.domain.ids import EntityId, Owner, ReadSideId, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.read_sides import DeadLetter
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
        self._turns: WeakValueDictionary[tuple[Shard, EntityId], asyncio.Lock] = WeakValueDictionary()

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

    def turn(self, shard: Shard, entity_id: EntityId) -> asyncio.Lock:
        """To be had by who delivers one of the entity's dead letters, from reading it to forgetting it."""
        return self._turns.setdefault((shard, entity_id), asyncio.Lock())

    async def park(self, shard: Shard, event: JournaledEvent, reason: str, failures: int) -> None:
        """
        Set an event aside.

        Raises JournalUnavailable, ClaimLost unless the shard is ours, and EntityIsErased if what the
        event says is not to be kept.
        """
        async with self._locks[shard]:
            await self._letters.park(self._read_side, shard, event, reason, failures, self._owner)
            self._parked[shard].add(event.envelope.meta.entity_id)

    async def follow(self, shard: Shard, event: JournaledEvent) -> bool:
        """
        Set aside a later event of the entity, like `park`; False if it is to be delivered.

        That it is when there are no dead letters any more, and when it says that its entity is erased
        and none of them was tried that says so.
        """
        entity_id = event.envelope.meta.entity_id
        if says_nothing(event.envelope):
            # One that is being delivered comes to its end first: none comes after the last event.
            async with self.turn(shard, entity_id):
                if await self._make_way(shard, entity_id):
                    return False
        async with self._locks[shard]:
            if not self.holds(shard, entity_id):
                return False
            await self._letters.park(self._read_side, shard, event, FOLLOWS, 0, self._owner)
            return True

    async def first(self, shard: Shard, entity_id: EntityId) -> DeadLetter | None:
        """The entity's oldest dead letter; without one, its events are delivered again. Raises as `load`."""
        async with self._locks[shard]:
            for letter in await self._letters.letters(self._read_side, entity_id, 1):
                return letter
            self._parked[shard].discard(entity_id)
            return None

    async def _make_way(self, shard: Shard, entity_id: EntityId) -> bool:
        async with self._locks[shard]:
            if self.holds(shard, entity_id):
                if not await self._letters.make_way(self._read_side, shard, entity_id, self._owner):
                    return False
                self._parked[shard].discard(entity_id)
            return True
