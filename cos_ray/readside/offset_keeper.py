"""
Saves offsets, many at a time.

Losing the last ones costs a few deliveries that happen twice, so there is no hurry; but they
may never run ahead of what is delivered.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Mapping

from cos_ray.domain.errors import HistoryWentBack, JournalUnavailable
from cos_ray.domain.ids import Offset, Owner, Shard
from cos_ray.domain.messages import RowIdentity
from cos_ray.ports import Clock, OffsetStore
from cos_ray.readside.settings import ReadSideSettings

logger = logging.getLogger(__name__)


class OffsetKeeper:
    """The offsets of one read side: as delivered, and as saved."""

    def __init__(
        self,
        settings: ReadSideSettings,
        store: OffsetStore,
        owner: Owner,
        clock: Clock,
        refused: Callable[[Collection[Shard]], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._owner = owner
        self._clock = clock
        self._refused = refused
        """Called with shards whose offsets are somebody else's to save by now."""
        self.went_back: Callable[[Collection[Shard]], None] = lambda shards: None
        """Called with shards of which the journal does not have any more what was read."""
        self._writing = asyncio.Lock()
        self._delivered: dict[Shard, Offset] = {}
        self._events: dict[Shard, RowIdentity] = {}
        """Of each shard the event that was read last, when its offset last moved; as far as it is known."""
        self._saved: dict[Shard, Offset] = {}
        self._moves = 0
        """How many moves of offsets were noted since the last save began."""
        self._first_at = math.inf
        """When the first of them was noted."""
        self._is_saving = False
        self._failures = 0
        self._retry_at = -math.inf

    async def load(self, shards: Collection[Shard]) -> Mapping[Shard, Offset | None]:
        """
        The offsets saved by whoever had these shards before; None where there is no number.

        Raises JournalUnavailable.
        """
        stored = await self._store.load(self._settings.read_side)
        found = {shard: stored.get(shard, Offset(0)) for shard in shards}
        for shard, offset in found.items():
            if offset is not None:
                self._saved[shard] = self._delivered[shard] = offset
        return found

    async def reset(self, shard: Shard, offset: Offset) -> bool:
        """Save this offset at once, forwards or back; False if the shard is not ours. Raises."""
        async with self._writing:
            if await self._save({shard: offset}):
                return False
            self._events.pop(shard, None)
            self._saved[shard] = self._delivered[shard] = offset
            return True

    async def catch_up(self, shard: Shard) -> bool:
        """Save at once how far the shard has come; False if it is not ours. Raises."""
        async with self._writing:
            offset = self._delivered.get(shard)
            if offset is None or self._saved.get(shard) == offset:
                return True
            if await self._save({shard: offset}):
                return False
            self._saved[shard] = offset
            return True

    def forget(self, shards: Collection[Shard]) -> None:
        """These shards are not ours any more: nothing of them is saved."""
        for shard in shards:
            self._delivered.pop(shard, None)
            self._events.pop(shard, None)
            self._saved.pop(shard, None)

    def note(self, shard: Shard, offset: Offset, event: RowIdentity | None) -> None:
        """Everything in the shard up to this offset is delivered; `event`: the one that was read last."""
        if self._delivered.get(shard, 0) == offset:
            return
        self._delivered[shard] = offset
        if event is not None:
            self._events[shard] = event
        if not self._moves:
            self._first_at = self._clock.monotonic()
        self._moves += 1

    def saves_at(self) -> float:
        """When to save next; never while there is nothing to save or a save is under way."""
        if self._is_saving or not self._moves:
            return math.inf
        if self._moves >= self._settings.save_every:
            return self._retry_at
        return max(self._first_at + self._settings.save_after.total_seconds(), self._retry_at)

    def begin_save(self) -> dict[Shard, Offset]:
        """A save begins, of the offsets answered; `save` is to follow."""
        self._is_saving = True
        self._moves = 0
        return {
            shard: offset for shard, offset in self._delivered.items() if self._saved.get(shard) != offset
        }

    async def save(self, unsaved: Mapping[Shard, Offset]) -> None:
        """Save these offsets. A failure is logged, and makes up for itself later."""
        refused: Collection[Shard] = ()
        went_back: Collection[Shard] = ()
        try:
            async with self._writing:
                # Waiting for the lock, a shard may have been lost or begun anew.
                current = {
                    shard: offset for shard, offset in unsaved.items() if self._may_be_saved(shard, offset)
                }
                if current:
                    try:
                        refused = await self._save(current)
                    except HistoryWentBack as error:
                        went_back = error.shards
                kept = {s: o for s, o in current.items() if s not in (*refused, *went_back)}
                self._saved.update(kept)
        except Exception as error:  # noqa: BLE001 - a lost save costs repeated deliveries, no more
            self._put_off(error)
        else:
            self._failures = 0
            self._retry_at = -math.inf
        finally:
            self._is_saving = False
        if refused:
            self._refused(refused)
        if went_back:
            self.went_back(went_back)

    async def _save(self, offsets: Mapping[Shard, Offset]) -> Collection[Shard]:
        """Those that are not ours. Raises JournalUnavailable and HistoryWentBack."""
        known = {shard: self._events[shard] for shard in offsets if shard in self._events}
        return await self._store.save(self._settings.read_side, offsets, self._owner, known)

    def _may_be_saved(self, shard: Shard, offset: Offset) -> bool:
        return shard in self._delivered and offset <= self._delivered[shard]

    def _put_off(self, error: Exception) -> None:
        self._failures += 1
        wait = self._settings.journal_retry.wait(self._failures).total_seconds()
        now = self._clock.monotonic()
        self._retry_at = now + wait
        if not self._moves:
            self._first_at = now
        self._moves += 1
        facts = {"read_side": self._settings.read_side, "reason": str(error), "retry_in": wait}
        surprise = None if isinstance(error, JournalUnavailable) else error
        logger.warning("offsets not saved", extra=facts, exc_info=surprise)
