"""Dead letters, in memory."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from typing import TypeAlias

from cos_ray.domain.erasure import says_nothing
from cos_ray.domain.errors import ClaimLost, EntityIsErased, JournalUnavailable
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, Revision, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.pages import Page
from cos_ray.domain.read_sides import DeadLetter
from cos_ray.testing.pages import page_of

OwnerOf: TypeAlias = Callable[[ReadSideId, Shard], Owner | None]
"""Who has a shard (`MemoryReadSides.owner`)."""


class MemoryDeadLetters:
    """`DeadLetters` in one process."""

    def __init__(self, owner_of: OwnerOf) -> None:
        self._owner_of = owner_of
        self.kept: dict[ReadSideId, dict[tuple[EntityId, Revision], DeadLetter]] = defaultdict(dict)
        self.skipped: dict[ReadSideId, dict[tuple[EntityId, Revision], tuple[Shard, Offset]]] = defaultdict(
            dict
        )
        """Where the events lie that were stepped over."""
        self.is_down = False
        """While True, every call raises JournalUnavailable."""
        self.erased: set[EntityId] = set()
        """The entities that are on record as erased."""

    async def park(
        self,
        read_side: ReadSideId,
        shard: Shard,
        event: JournaledEvent,
        reason: str,
        failures: int,
        owner: Owner,
    ) -> None:
        """See `DeadLetters.park`."""
        await self._be_asked()
        self._require(read_side, shard, owner)
        key = event.envelope.meta.entity_id, event.envelope.sequence_number
        if key[0] in self.erased and not says_nothing(event.envelope):
            raise EntityIsErased(key[0])
        now = datetime.now(timezone.utc)
        letter = DeadLetter(shard, event.offset, event.envelope, reason, failures, now)
        before = self.kept[read_side].setdefault(key, letter)
        if says_nothing(letter.envelope) and not says_nothing(before.envelope):
            self.kept[read_side][key] = letter

    async def entities(self, read_side: ReadSideId) -> Mapping[Shard, Collection[EntityId]]:
        """See `DeadLetters.entities`."""
        await self._be_asked()
        found: dict[Shard, set[EntityId]] = defaultdict(set)
        for (entity_id, _), letter in self.kept[read_side].items():
            found[letter.shard].add(entity_id)
        return found

    async def counts(self, read_side: ReadSideId) -> Mapping[Shard, int]:
        """See `DeadLetters.counts`."""
        await self._be_asked()
        return Counter(letter.shard for letter in self.kept[read_side].values())

    async def letters(
        self, read_side: ReadSideId, entity_id: EntityId | None, limit: int
    ) -> Page[DeadLetter]:
        """See `DeadLetters.letters`."""
        await self._be_asked()
        found = [letter for (whose, _), letter in self.kept[read_side].items() if entity_id in (None, whose)]
        return page_of(sorted(found, key=lambda letter: letter.offset), limit)

    async def drop(
        self,
        read_side: ReadSideId,
        shard: Shard,
        entity_id: EntityId,
        revision: Revision | None,
        owner: Owner,
        *,
        confirmed: bool,
    ) -> int:
        """See `DeadLetters.drop`."""
        await self._be_asked()
        self._require(read_side, shard, owner)
        kept = self.kept[read_side]
        dropped = [key for key in kept if key[0] == entity_id and revision in (None, key[1])]
        for key in dropped:
            letter = kept.pop(key)
            if not confirmed:
                self.skipped[read_side].setdefault(key, (letter.shard, letter.offset))
        return len(dropped)

    async def make_way(self, read_side: ReadSideId, shard: Shard, entity_id: EntityId, owner: Owner) -> bool:
        """See `DeadLetters.make_way`."""
        await self._be_asked()
        self._require(read_side, shard, owner)
        self._forget_what_is_said(read_side, entity_id)
        return all(whose != entity_id for whose, _ in self.kept[read_side])

    def finish_erasure(self, entity_id: EntityId) -> None:
        """As the journal does at the end of an erasure."""
        for read_side in self.kept:
            self._forget_what_is_said(read_side, entity_id)

    def _forget_what_is_said(self, read_side: ReadSideId, entity_id: EntityId) -> None:
        for key, letter in list(self.kept[read_side].items()):
            if key[0] == entity_id and not says_nothing(letter.envelope):
                del self.kept[read_side][key]

    async def drop_after(self, read_side: ReadSideId, shard: Shard, offset: Offset, owner: Owner) -> None:
        """See `DeadLetters.drop_after`."""
        await self._be_asked()
        self._require(read_side, shard, owner)
        kept = self.kept[read_side]
        for key, letter in list(kept.items()):
            if letter.shard == shard and letter.offset > offset:
                del kept[key]
        self._forget_skipped_after(read_side, {shard: offset})

    async def skip(self, read_side: ReadSideId, shard: Shard, event: JournaledEvent, owner: Owner) -> None:
        """See `DeadLetters.skip`."""
        await self._be_asked()
        self._require(read_side, shard, owner)
        key = event.envelope.meta.entity_id, event.envelope.sequence_number
        self.skipped[read_side].setdefault(key, (shard, event.offset))

    async def skipped_of(self, read_side: ReadSideId, entity_id: EntityId) -> Collection[Revision]:
        """See `DeadLetters.skipped_of`."""
        await self._be_asked()
        return {revision for whose, revision in self.skipped[read_side] if whose == entity_id}

    async def forget_skipped(
        self,
        read_side: ReadSideId,
        shard: Shard,
        entity_id: EntityId,
        revisions: Collection[Revision],
        owner: Owner,
    ) -> None:
        """See `DeadLetters.forget_skipped`."""
        await self._be_asked()
        self._require(read_side, shard, owner)
        for revision in revisions:
            self.skipped[read_side].pop((entity_id, revision), None)

    async def forget_skipped_after(
        self, read_side: ReadSideId, offsets: Mapping[Shard, Offset], owner: Owner
    ) -> None:
        """See `DeadLetters.forget_skipped_after`."""
        await self._be_asked()
        ours = {s: o for s, o in offsets.items() if self._owner_of(read_side, s) == owner}
        self._forget_skipped_after(read_side, ours)

    async def is_left_out(self, read_side: ReadSideId, entity_id: EntityId, revision: Revision) -> bool:
        """See `DeadLetters.is_left_out`."""
        await self._be_asked()
        key = entity_id, revision
        return key in self.kept[read_side] or key in self.skipped[read_side]

    def _forget_skipped_after(self, read_side: ReadSideId, offsets: Mapping[Shard, Offset]) -> None:
        skipped = self.skipped[read_side]
        for key, (shard, offset) in list(skipped.items()):
            if shard in offsets and offset > offsets[shard]:
                del skipped[key]

    def _require(self, read_side: ReadSideId, shard: Shard, owner: Owner) -> None:
        if self._owner_of(read_side, shard) != owner:
            raise ClaimLost(read_side, shard)

    async def _be_asked(self) -> None:
        await asyncio.sleep(0)
        if self.is_down:
            raise JournalUnavailable("the dead letters are out of reach, as planted")
