"""The read sides' offsets, claims and orders, in memory."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Offset, Owner, ReadSideId, Shard
from cos_ray.ports import Clock
from cos_ray.testing.clock import ManualClock


class MemoryReadSides:
    """`OffsetStore` and `ReadSideControls` in one process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or ManualClock()
        self.offsets: dict[ReadSideId, dict[Shard, Offset | None]] = defaultdict(dict)
        self.paused_shards: dict[ReadSideId, dict[Shard, bool]] = defaultdict(dict)
        self.claims: dict[tuple[ReadSideId, Shard], tuple[Owner, float]] = {}
        """Whose each shard is, and when that was last heard of."""
        self.saves: list[dict[Shard, Offset]] = []
        """Every save that was asked for."""
        self.went_back: Callable[[], None] = lambda: None
        """Called when an offset does not rise: what was delivered may come again."""
        self.reachable = True
        """While False, every call raises JournalUnavailable."""
        self.is_down = False
        """While True, loading and saving offsets do."""

    async def load(self, read_side: ReadSideId) -> Mapping[Shard, Offset | None]:
        """See `OffsetStore.load`."""
        await self._be_asked(self.is_down)
        return dict(self.offsets[read_side])

    async def save(
        self, read_side: ReadSideId, offsets: Mapping[Shard, Offset], owner: Owner
    ) -> Collection[Shard]:
        """See `OffsetStore.save`."""
        await self._be_asked(self.is_down)
        self.saves.append(dict(offsets))
        before = self.offsets[read_side]
        if any(offset <= (before.get(shard) or 0) for shard, offset in offsets.items()):
            self.went_back()
        refused = [shard for shard in offsets if self._owner(read_side, shard) != owner]
        self.offsets[read_side].update({s: o for s, o in offsets.items() if s not in refused})
        return refused

    async def introduce(self, read_side: ReadSideId, shards: Collection[Shard], auto_start: bool) -> None:
        """See `ReadSideControls.introduce`."""
        await self._be_asked()
        is_new = not self.paused_shards[read_side] and not self.offsets[read_side]
        for shard in shards:
            self.paused_shards[read_side].setdefault(shard, is_new and not auto_start)

    async def paused(self, read_side: ReadSideId) -> Collection[Shard]:
        """See `ReadSideControls.paused`."""
        await self._be_asked()
        return {shard for shard, paused in self.paused_shards[read_side].items() if paused}

    async def pause(self, read_side: ReadSideId, shards: Collection[Shard], paused: bool) -> None:
        """See `ReadSideControls.pause`."""
        await self._be_asked()
        self.paused_shards[read_side].update(dict.fromkeys(shards, paused))

    async def claim(self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner) -> None:
        """See `ReadSideControls.claim`."""
        await self._be_asked()
        for shard in shards:
            self.claims[read_side, shard] = owner, self._clock.monotonic()

    async def renew(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, silence: timedelta
    ) -> Collection[Shard]:
        """See `ReadSideControls.renew`."""
        await self._be_asked()
        now = self._clock.monotonic()
        ours = set()
        for shard in shards:
            holder, heard = self.claims.get((read_side, shard), (None, float("-inf")))
            if holder == owner or heard < now - silence.total_seconds():
                self.claims[read_side, shard] = owner, now
                ours.add(shard)
        return ours

    async def release(self, read_side: ReadSideId, owner: Owner) -> None:
        """See `ReadSideControls.release`."""
        await self._be_asked()
        for key, (holder, _) in list(self.claims.items()):
            if key[0] == read_side and holder == owner:
                del self.claims[key]

    def _owner(self, read_side: ReadSideId, shard: Shard) -> Owner | None:
        claim = self.claims.get((read_side, shard))
        return claim[0] if claim else None

    async def _be_asked(self, is_down: bool = False) -> None:
        await asyncio.sleep(0)
        if is_down or not self.reachable:
            raise JournalUnavailable("the offsets are out of reach, as planted")
