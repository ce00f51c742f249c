"""The read sides' offsets, claims and orders, in memory."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

from cos_ray.domain.errors import HistoryWentBack, JournalUnavailable
from cos_ray.domain.ids import Offset, Owner, ReadSideId, ReleaseId, Shard
from cos_ray.domain.messages import RowIdentity
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.ports import NOTHING_KNOWN, Clock
from cos_ray.system.process_identity import is_surely_gone
from cos_ray.testing.clock import ManualClock

_NOBODY = LeaseRank(-1, False, -1)


@dataclass(slots=True)
class Claim:
    """Whose a shard is, and who asks for it. Times are seconds of the clock."""

    owner: Owner
    standing: LeaseRank
    renewed_at: float
    lasts: timedelta
    """How long after its last renewal others may take it."""
    heir: Owner | None = None
    heir_standing: LeaseRank = _NOBODY
    heir_until: float = -math.inf

    def is_wanted(self, now: float) -> bool:
        """Whether somebody asks for it who was heard of lately."""
        return self.heir_until > now

    def may_be_taken(self, owner: Owner, standing: LeaseRank, now: float) -> bool:
        """Whether this one may have it without its being given up."""
        is_gone = standing.at_home and is_surely_gone(self.owner)
        is_over = is_gone or self.renewed_at + self.lasts.total_seconds() < now
        return self.owner == owner or (is_over and (self.heir == owner or not self.is_wanted(now)))


class MemoryReadSides:
    """`OffsetStore` and `ReadSideControls` in one process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or ManualClock()
        self.offsets: dict[ReadSideId, dict[Shard, Offset | None]] = defaultdict(dict)
        self.paused_shards: dict[ReadSideId, dict[Shard, bool]] = defaultdict(dict)
        self.claims: dict[tuple[ReadSideId, Shard], Claim] = {}
        self.accepted: dict[tuple[ReadSideId, Shard], Offset] = {}
        """Up to where it is accepted that a read side has not seen what is deleted."""
        self._generations: dict[ReleaseId, int] = {}
        self._runs = 0
        self.saves: list[dict[Shard, Offset]] = []
        """Every save that was asked for."""
        self.went_back: Callable[[], None] = lambda: None
        """Called when an offset does not rise: what was delivered may come again."""
        self.holds: Callable[[RowIdentity], bool] = lambda row: True
        """Whether the journal has this event."""
        self.reachable = True
        """While False, every call raises JournalUnavailable."""
        self.is_down = False
        """While True, loading and saving offsets do."""

    async def load(self, read_side: ReadSideId) -> Mapping[Shard, Offset | None]:
        """See `OffsetStore.load`."""
        await self._be_asked(self.is_down)
        return dict(self.offsets[read_side])

    async def save(
        self,
        read_side: ReadSideId,
        offsets: Mapping[Shard, Offset],
        owner: Owner,
        known: Mapping[Shard, RowIdentity] = NOTHING_KNOWN,
    ) -> Collection[Shard]:
        """See `OffsetStore.save`."""
        await self._be_asked(self.is_down)
        lost = [s for s in offsets if s in known and not self.holds(known[s])]
        offsets = {shard: offset for shard, offset in offsets.items() if shard not in lost}
        self.saves.append(dict(offsets))
        before = self.offsets[read_side]
        if any(offset <= (before.get(shard) or 0) for shard, offset in offsets.items()):
            self.went_back()
        refused = [shard for shard in offsets if self.owner(read_side, shard) != owner]
        self.offsets[read_side].update({s: o for s, o in offsets.items() if s not in refused})
        if lost:
            raise HistoryWentBack(lost)
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

    async def accept_losses(self, read_side: ReadSideId, up_to: Mapping[Shard, Offset]) -> None:
        """See `ReadSideControls.accept_losses`."""
        await self._be_asked()
        for shard, offset in up_to.items():
            key = read_side, shard
            self.accepted[key] = max(offset, self.accepted.get(key, Offset(0)))

    async def enlist(self, release: ReleaseId) -> LeaseRank:
        """See `ReadSideControls.enlist`."""
        await self._be_asked()
        self._runs += 1
        return LeaseRank(self._generations.setdefault(release, len(self._generations) + 1), True, self._runs)

    async def keep(self, read_side: ReadSideId, owner: Owner, lasts: timedelta) -> Mapping[Shard, bool]:
        """See `ReadSideControls.keep`."""
        await self._be_asked()
        now = self._clock.monotonic()
        found = {}
        for (whose, shard), claim in self.claims.items():
            if whose == read_side and claim.owner == owner:
                claim.renewed_at, claim.lasts = now, lasts
                found[shard] = claim.is_wanted(now)
        return found

    async def take(
        self,
        read_side: ReadSideId,
        shards: Collection[Shard],
        owner: Owner,
        standing: LeaseRank,
        lasts: timedelta,
    ) -> Collection[Shard]:
        """See `ReadSideControls.take`."""
        await self._be_asked()
        now = self._clock.monotonic()
        taken = set()
        for shard in shards:
            claim = self.claims.get((read_side, shard))
            if claim is None or claim.may_be_taken(owner, standing, now):
                self.claims[read_side, shard] = Claim(owner, standing, now, lasts)
                taken.add(shard)
        return taken

    async def ask(
        self,
        read_side: ReadSideId,
        shards: Collection[Shard],
        owner: Owner,
        standing: LeaseRank,
        lasts: timedelta,
    ) -> None:
        """See `ReadSideControls.ask`."""
        await self._be_asked()
        now = self._clock.monotonic()
        for shard in shards:
            claim = self.claims.get((read_side, shard))
            if claim is None or claim.owner == owner or claim.standing >= standing:
                continue
            if not claim.is_wanted(now) or claim.heir_standing <= standing:
                claim.heir, claim.heir_standing = owner, standing
                claim.heir_until = now + lasts.total_seconds()

    async def release(
        self, read_side: ReadSideId, shards: Collection[Shard], owner: Owner, run: int | None = None
    ) -> None:
        """See `ReadSideControls.release`."""
        await self._be_asked()
        now = self._clock.monotonic()
        for key in [(read_side, shard) for shard in shards]:
            claim = self.claims.get(key)
            if claim is None or claim.owner != owner or (run is not None and claim.standing.run > run):
                continue
            del self.claims[key]
            if claim.heir is not None and claim.is_wanted(now):
                self.claims[key] = Claim(claim.heir, claim.heir_standing, now, claim.lasts)

    def owner(self, read_side: ReadSideId, shard: Shard) -> Owner | None:
        """Who has the shard, if anybody."""
        claim = self.claims.get((read_side, shard))
        return claim.owner if claim else None

    async def _be_asked(self, is_down: bool = False) -> None:
        await asyncio.sleep(0)
        if is_down or not self.reachable:
            raise JournalUnavailable("the offsets are out of reach, as planted")
