"""
Delivers dead letters, an entity's in order.

One that is confirmed is forgotten; the first that is not ends it for its entity. With the last of
them gone, the entity's new events are delivered like everybody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.read_sides import DeadLetter
from cos_ray.domain.texts import said_by
from cos_ray.ports import Clock, DeadLetters, ReadHandler
from cos_ray.readside.parking import Parking
from cos_ray.readside.settings import ReadSideSettings
from cos_ray.readside.shard_leases import ShardLeases


class DeadLetterRetry:
    """The second try."""

    def __init__(
        self,
        settings: ReadSideSettings,
        letters: DeadLetters,
        parking: Parking,
        handler: ReadHandler,
        clock: Clock,
        claims: ShardLeases,
    ) -> None:
        self._read_side = settings.read_side
        self._claims = claims
        self._under_way: dict[Shard, asyncio.Future[None]] = {}
        self._letters = letters
        self._parking = parking
        self._handler = handler
        self._clock = clock

    async def deliver(
        self, shard: Shard, entities: Collection[EntityId], within: float
    ) -> tuple[int, list[str]]:
        """
        How many were confirmed, and a line for each entity that was not done.

        Begins none after so many seconds. Raises JournalUnavailable, and ClaimLost when the shard is lost.
        """
        until = self._clock.monotonic() + within
        count = 0
        faults = []
        for entity_id in entities:
            done, fault = await self._deliver(shard, entity_id, until)
            count += done
            if fault is not None:
                faults.append(f"{entity_id}: {fault}")
        return count, faults

    async def _deliver(self, shard: Shard, entity_id: EntityId, until: float) -> tuple[int, str | None]:
        count = 0
        while True:
            # Each is read just before: what it says may have been erased while others were delivered.
            async with self._parking.turn(shard, entity_id):
                letter = await self._parking.first(shard, entity_id)
                if letter is None:
                    return count, None
                if self._clock.monotonic() >= until:
                    return count, "out of time; retry again for the rest"
                if (fault := await self._try(shard, letter)) is not None:
                    return count, fault
                revision = letter.envelope.sequence_number
                await self._letters.drop(
                    self._read_side, shard, entity_id, revision, self._claims.owner, confirmed=True
                )
                count += 1

    def interrupt(self, shard: Shard) -> None:
        """Cut short the delivery that is under way in the shard."""
        if (under_way := self._under_way.get(shard)) is not None:
            under_way.cancel()

    async def _try(self, shard: Shard, letter: DeadLetter) -> str | None:
        if not self._claims.may_begin(shard):
            return "the shard is not certain to be ours; retry again"
        under_way = asyncio.ensure_future(self._handler.handle(self._read_side, shard, letter.envelope))
        self._under_way[shard] = under_way
        try:
            await asyncio.wait({under_way})
            if under_way.cancelled():
                return "cut short: the shard is not certain to be ours; retry again"
            under_way.result()
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            return f"revision {letter.envelope.sequence_number}: {said_by(error) or type(error).__name__}"
        finally:
            del self._under_way[shard]
            under_way.cancel()
        return None
