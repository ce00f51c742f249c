"""The read sides' offsets, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Offset, ReadSideId, Shard


class MemoryOffsets:
    """`OffsetStore` in one process."""

    def __init__(self) -> None:
        self._offsets: dict[ReadSideId, dict[Shard, Offset]] = {}
        self.reachable = True
        """While False, every call raises JournalUnavailable."""

    async def load(self, read_side: ReadSideId) -> Mapping[Shard, Offset]:
        """See `OffsetStore.load`."""
        await self._be_asked()
        return dict(self._offsets.get(read_side, {}))

    async def save(self, read_side: ReadSideId, offsets: Mapping[Shard, Offset]) -> None:
        """See `OffsetStore.save`."""
        await self._be_asked()
        self._offsets.setdefault(read_side, {}).update(offsets)

    async def _be_asked(self) -> None:
        await asyncio.sleep(0)
        if not self.reachable:
            raise JournalUnavailable("the offsets are out of reach, as planted")
