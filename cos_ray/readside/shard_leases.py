"""
Which shards a process may deliver.

Each shard has one owner, whose claim is a lease (`cos_ray.domain.shard_leases`); each write of a read side is
refused to everybody else. A process takes the shards that nobody has. For a shard of its own that another
has, it asks: the owner of lower rank drains its deliveries, saves its offset and releases the shard.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Owner, ReleaseId, Shard
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.ports import Clock, ReadSideControls
from cos_ray.readside.settings import ReadSideSettings

logger = logging.getLogger(__name__)

_TRY_AGAIN = 1.0
"""Seconds after which a renewal that failed is tried again."""


@dataclass(slots=True, eq=False)
class Term:
    """One time of having a shard, without a break."""

    confirmed_at: float
    """From before the last renewal was asked for, in seconds of the clock."""
    is_begun: bool = False
    """Whether the shard is being opened, or is open."""
    is_cut: bool = False
    """Whether it came so near its end that deliveries were cut short."""


@dataclass(frozen=True, slots=True)
class Who:
    """A run of a read side in one process."""

    owner: Owner
    release: ReleaseId
    home: frozenset[Shard]
    """The shards that are its own."""
    others: frozenset[Shard]
    """Those it looks after when nobody else does."""


class ShardLeases:
    """One process's claims to the shards of a read side."""

    def __init__(
        self,
        settings: ReadSideSettings,
        who: Who,
        controls: ReadSideControls,
        clock: Clock,
        lost: Callable[[Collection[Shard]], None],
    ) -> None:
        self.owner = who.owner
        self._who = who
        self._settings = settings
        self._lease = settings.lease
        self._controls = controls
        self._clock = clock
        self._lost = lost
        """Called with shards that others have by now."""
        self._rank: LeaseRank | None = None
        self._terms: dict[Shard, Term] = {}
        # Given up, as far as we are concerned; whether it is stored is not known.
        self._giving_up: set[Shard] = set()
        self._is_to_enlist_anew = False
        self._changing = asyncio.Lock()
        self._renews_at = math.inf
        self._others_at = math.inf

    def term(self, shard: Shard) -> Term | None:
        """The present time of having the shard; None while others may have it."""
        return self._terms.get(shard)

    def may_begin(self, shard: Shard) -> bool:
        """Whether a delivery may be begun."""
        term = self._terms.get(shard)
        return term is not None and self._lease.may_begin(term.confirmed_at, self._clock.monotonic())

    def lapses_at(self) -> float:
        """When deliveries under way are to be cut short next."""
        ends = [self._lease.ends_at(t.confirmed_at) for t in self._terms.values() if not t.is_cut]
        return min(ends, default=math.inf)

    def lapse(self) -> list[Shard]:
        """The shards whose deliveries are to be cut short now; each once, until it is renewed."""
        now = self._clock.monotonic()
        found = []
        for shard, term in self._terms.items():
            if not term.is_cut and self._lease.ends_at(term.confirmed_at) <= now:
                term.is_cut = True
                found.append(shard)
        return found

    def renews_at(self) -> float:
        """When to renew next."""
        return self._renews_at

    def begin(self) -> None:
        """From now on it is to be renewed."""
        self._renews_at = self._clock.monotonic()
        # Others that start at the same time come for theirs: there is no need to take them in between.
        self._others_at = self._renews_at + self._lease.renewal.total_seconds()

    def begin_renewal(self) -> None:
        """A renewal begins; `renew` or `keep` is to follow."""
        self._renews_at = math.inf

    def renew_soon(self) -> None:
        """Do not wait for the next renewal's time."""
        soon = self._clock.monotonic() + self._settings.ask_every.total_seconds()
        self._renews_at = min(self._renews_at, soon)

    async def renew(self) -> Collection[Shard] | None:
        """
        Keep what is ours, take what nobody has, ask for what is to be ours.

        Answers with the shards that somebody else is to have; None when that cannot be learnt.
        """
        return await self._within_reach(self._renew)

    async def keep(self) -> Collection[Shard] | None:
        """Keep what is ours, no more; answers like `renew`."""
        return await self._within_reach(self._keep)

    async def release(self, shards: Collection[Shard]) -> None:
        """
        Let others have these shards at once. Raises JournalUnavailable.

        They are not taken up again then before it is known to have been done, and as another run: a
        database that carries it out late would give them away under our hands.
        """
        async with self._changing:
            self._giving_up.update(shards)
            await self._release(shards)
            self._giving_up.difference_update(shards)
            self.forget(shards)

    async def let_go(self) -> None:
        """Give up all there are at the end of a run, if that can be stored; if not, they expire."""
        try:
            await self.release(self._who.home | self._who.others)
        except JournalUnavailable as error:
            logger.info("claims not given up; they expire", extra={"reason": str(error)})

    def forget(self, shards: Collection[Shard]) -> None:
        """These are not ours any more."""
        for shard in shards:
            self._terms.pop(shard, None)

    async def _within_reach(
        self, work: Callable[[float], Awaitable[Collection[Shard]]]
    ) -> Collection[Shard] | None:
        now = self._clock.monotonic()
        try:
            async with self._changing:
                # Counted from before it is asked, which may take long.
                now = self._clock.monotonic()
                return await work(now)
        except Exception as error:
            surprise = None if isinstance(error, JournalUnavailable) else error
            facts = {"read_side": self._settings.read_side, "reason": str(error)}
            logger.debug("claims not renewed", extra=facts, exc_info=surprise)
            self._renews_at = now + _TRY_AGAIN
            return None
        except asyncio.CancelledError:
            # By a process that stops, and keeps its claims until it has.
            self._renews_at = now
            raise

    async def _keep(self, now: float) -> Collection[Shard]:
        held = await self._controls.keep(self._settings.read_side, self.owner, self._lease.lasts)
        undone = self._giving_up & held.keys()
        ours = held.keys() - undone
        # Said before any is taken again: in between, others may have had it.
        if gone := self._terms.keys() - ours:
            self.forget(gone)
            self._lost(gone)
        self._note(ours, now)
        self._renews_at = now + self._lease.renewal.total_seconds()
        if undone:
            await self._release(undone)
        if self._giving_up:
            self._is_to_enlist_anew = True
            self._giving_up.clear()
        return [shard for shard in ours if held[shard]]

    async def _release(self, shards: Collection[Shard]) -> None:
        if self._rank is not None:
            await self._controls.release(self._settings.read_side, shards, self.owner, self._rank.run)

    async def _renew(self, now: float) -> Collection[Shard]:
        wanted = await self._keep(now)
        if self._rank is None or self._is_to_enlist_anew:
            self._rank = await self._controls.enlist(self._who.release)
            self._is_to_enlist_anew = False
        await self._take(self._who.home, self._rank)
        if missing := self._who.home - self._terms.keys():
            settings = self._settings
            await self._controls.ask(settings.read_side, missing, self.owner, self._rank, self._lease.lasts)
            self._renews_at = min(self._renews_at, now + settings.ask_every.total_seconds())
        if self._others_at <= now:
            await self._take(self._who.others, self._rank.in_shards(at_home=False))
            self._others_at = now + self._lease.renewal.total_seconds()
        return wanted

    async def _take(self, shards: frozenset[Shard], rank: LeaseRank) -> None:
        """Have those of the shards that are free."""
        if missing := shards - self._terms.keys():
            now = self._clock.monotonic()
            taken = await self._controls.take(
                self._settings.read_side, missing, self.owner, rank, self._lease.lasts
            )
            self._note(taken, now)

    def _note(self, shards: Collection[Shard], now: float) -> None:
        for shard in shards:
            term = self._terms.setdefault(shard, Term(now))
            term.confirmed_at, term.is_cut = now, False
