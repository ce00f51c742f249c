"""Whether an event was handled: confirmed, and neither skipped nor set aside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.ports import Clock
from cos_ray.readside.projection import Projection
from cos_ray.readside.settings import Stores


class Handled:
    """Answers those who wait for one read side."""

    def __init__(
        self,
        read_side: ReadSideId,
        projections: Mapping[Shard, Projection],
        stores: Stores,
        clock: Clock,
        look: Callable[[Shard], None],
        is_borne_out: Callable[[Projection], Awaitable[bool]],
    ) -> None:
        self._read_side = read_side
        self._projections = projections
        self._stores = stores
        self._clock = clock
        self._look = look
        """Called with a shard that is to be read at once."""
        self._is_borne_out = is_borne_out
        """Whether the journal still has what was read of a shard."""

    async def ask(self, shard: Shard, entity_id: EntityId, revision: Revision, timeout: float) -> bool | None:
        """
        Whether this event is confirmed, now or within so many seconds; None: the shard is not ours.

        Raises JournalUnavailable.
        """
        projection = self._projections.get(shard)
        if projection is None or not projection.is_ours:
            return None
        if projection.has_confirmed(entity_id, revision):
            return await self._is_borne_out(projection)
        offset = await self._stores.positions.place_of(entity_id, revision)
        if offset is None:
            return False
        waiting = projection.wait_for(entity_id, revision, offset)
        if waiting is None:
            # Asked only now: what is left out is stored before it is behind the offset.
            if await self._stores.letters.is_left_out(self._read_side, entity_id, revision):
                return False
            return await self._is_borne_out(projection)
        self._look(shard)
        alarm = asyncio.ensure_future(self._clock.sleep(timeout))
        try:
            await asyncio.wait((waiting, alarm), return_when=asyncio.FIRST_COMPLETED)
            return waiting.done() and waiting.result() and await self._is_borne_out(projection)
        finally:
            waiting.cancel()
            alarm.cancel()
