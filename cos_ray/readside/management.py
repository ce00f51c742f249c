"""
Where an operator's wishes come in: from any process, for any read side.

Orders that must outlive a process (pause, resume) are stored first and told second; the others are
carried out by the process that has the shard. No answer takes longer than its time: whoever does
not answer is named, and left to be tried again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from cos_ray.domain.errors import ReadSideUnavailable, UnknownReadSide, WrongShard
from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard
from cos_ray.domain.pages import Page
from cos_ray.domain.read_sides import (
    Behind,
    DeadLetter,
    DropLetters,
    Lag,
    Obeyed,
    Order,
    ReadSideStatus,
    Refresh,
    Replay,
    ReplayEntities,
    Report,
    RetryLetters,
    ShardState,
    ShardStatus,
    Skip,
)
from cos_ray.domain.sharding import shard_of
from cos_ray.ports import DeadLetters, OffsetStore, Positions, ReadSideControls, ReadSideProcesses

TOLD_WITHIN = 3.0
"""Seconds in which a process has to answer an order that takes no time."""

DONE_WITHIN = 20.0
"""Seconds in which it has to carry out one that does."""

RETRY_FOR = 15.0
"""Seconds after which no further dead letter is begun within one order."""


class ReadSideManagement:
    """The read sides of a service, as operators and clients see them."""

    def __init__(
        self,
        read_sides: Sequence[ReadSideId],
        shards: int,
        controls: ReadSideControls,
        offsets: OffsetStore,
        letters: DeadLetters,
        positions: Positions,
        processes: ReadSideProcesses,
    ) -> None:
        self._read_sides = read_sides
        self._shards = [Shard(number) for number in range(shards)]
        self._controls = controls
        self._offsets = offsets
        self._letters = letters
        self._positions = positions
        self._processes = processes

    # Every method raises UnknownReadSide, WrongShard, JournalUnavailable and ReadSideUnavailable.

    def known(self, read_side: str) -> ReadSideId:
        """The read side of this name."""
        if read_side not in self._read_sides:
            raise UnknownReadSide(read_side)
        return ReadSideId(read_side)

    async def offsets(self, read_side: str, shard: int | None = None) -> Mapping[Shard, Offset]:
        """How far it has come in this shard, or in all; 0 where nobody knows."""
        known, shards = self.known(read_side), self._chosen(shard)
        stored = await self._offsets.load(known)
        return {each: stored.get(each) or Offset(0) for each in shards}

    async def pause(self, read_side: str, shard: int | None = None) -> None:
        """Stop deliveries until resumed. Stored, so in force also where no process answers yet."""
        known, shards = self.known(read_side), self._chosen(shard)
        await self._controls.pause(known, shards, True)
        await self._tell(known, Refresh())

    async def resume(self, read_side: str, shard: int | None = None) -> None:
        """Go on, where deliveries were paused and where a failure stopped them."""
        known, shards = self.known(read_side), self._chosen(shard)
        await self._controls.pause(known, shards, False)
        await self._tell(known, Refresh(frozenset(shards)))

    async def restart(self, read_side: str, shard: int | None = None) -> None:
        """Deliver everything again, from the beginning of the journal."""
        known, shards = self.known(read_side), self._chosen(shard)
        await self._order(known, Replay(dict.fromkeys(shards, Offset(0))), shards)

    async def skip(self, read_side: str, shard: int | None = None) -> int:
        """Step over the next event of each shard that is stuck; how many that were."""
        known, shards = self.known(read_side), self._chosen(shard)
        return (await self._order(known, Skip(frozenset(shards)), shards)).count

    async def replay_since(self, read_side: str, shards: Collection[int], date: datetime) -> Obeyed:
        """Deliver again what was stored since that time."""
        known, chosen = self.known(read_side), self._chosen_of(shards)
        return await self._order(known, Replay(await self._positions.before(chosen, date)), chosen)

    async def replay_after(self, read_side: str, shards: Collection[int], offset: int) -> Obeyed:
        """Deliver again what comes after the offset."""
        known, chosen = self.known(read_side), self._chosen_of(shards)
        return await self._order(known, Replay(dict.fromkeys(chosen, Offset(offset))), chosen)

    async def replay_entities(self, read_side: str, entities: Collection[str]) -> Obeyed:
        """Deliver these entities' events again."""
        known, by_shard = self.known(read_side), self._by_shard(entities)
        return await self._order(known, ReplayEntities(by_shard), by_shard.keys())

    async def dead_letters(self, read_side: str, entity_id: str | None, limit: int) -> Page[DeadLetter]:
        """What was set aside, the oldest first."""
        whose = None if entity_id is None else EntityId(entity_id)
        return await self._letters.letters(self.known(read_side), whose, limit)

    async def retry_letters(self, read_side: str, entities: Collection[str]) -> Obeyed:
        """Deliver the dead letters of these entities; of all, if none is named."""
        known = self.known(read_side)
        if entities:
            by_shard: Mapping[Shard, tuple[EntityId, ...]] = self._by_shard(entities)
        else:
            parked = await self._letters.entities(known)
            by_shard = {shard: tuple(sorted(ids)) for shard, ids in parked.items()}
        return await self._order(known, RetryLetters(by_shard, RETRY_FOR), by_shard.keys())

    async def drop_letters(self, read_side: str, entity_id: str, revision: int | None) -> int:
        """Forget the entity's dead letters, or one of them; how many that were."""
        known, whose = self.known(read_side), EntityId(entity_id)
        shard = shard_of(whose, len(self._shards))
        order = DropLetters(shard, whose, None if revision is None else Revision(revision))
        return (await self._order(known, order, [shard])).count

    async def status(self, read_side: str | None = None) -> list[ReadSideStatus]:
        """How this read side fares, or all of them. Does not wait long for those that do not answer."""
        asked = self._read_sides if read_side is None else [self.known(read_side)]
        return list(await asyncio.gather(*(self._status(each) for each in asked)))

    async def handled(self, read_side: str, entity_id: EntityId, revision: Revision, timeout: float) -> bool:
        """Whether it has confirmed this event (by sequence number), now or within so many seconds."""
        shard = shard_of(entity_id, len(self._shards))
        return await self._processes.handled(self.known(read_side), shard, entity_id, revision, timeout)

    async def _status(self, read_side: ReadSideId) -> ReadSideStatus:
        answers, stored, paused, letters = await asyncio.gather(
            self._tell(read_side, Report()),
            self._offsets.load(read_side),
            self._controls.paused(read_side),
            self._letters.counts(read_side),
        )
        found = {status.shard: status for answer in answers for status in answer.shards}
        for shard in self._shards:
            if shard not in found:
                state = ShardState.PAUSED if shard in paused else ShardState.UNKNOWN
                found[shard] = ShardStatus(shard, state, stored.get(shard) or Offset(0))
        lags = await self._positions.lags({shard: status.offset for shard, status in found.items()})
        behind = [
            Behind(found[shard], lags.get(shard, Lag()), letters.get(shard, 0)) for shard in self._shards
        ]
        return ReadSideStatus(read_side, tuple(behind))

    async def _tell(self, read_side: ReadSideId, order: Order) -> Sequence[Obeyed]:
        """Say it to whoever hears it; the others learn of it by themselves."""
        try:
            return await self._processes.obey(read_side, order, TOLD_WITHIN)
        except ReadSideUnavailable:
            return ()

    async def _order(self, read_side: ReadSideId, order: Order, shards: Collection[Shard]) -> Obeyed:
        """Have it done in all these shards."""
        answers = await self._processes.obey(read_side, order, DONE_WITHIN)
        done = {status.shard for answer in answers for status in answer.shards}
        if missing := sorted(set(shards) - done):
            which = ", ".join(map(str, missing))
            raise ReadSideUnavailable(
                f"no process of read side {read_side} answers for shard {which}; try again"
            )
        failed = [line for answer in answers for line in answer.failed]
        return Obeyed((), sum(answer.count for answer in answers), tuple(failed))

    def _chosen(self, shard: int | None) -> list[Shard]:
        return self._chosen_of(() if shard is None else (shard,))

    def _chosen_of(self, shards: Collection[int]) -> list[Shard]:
        """These shards; all of them, if none is named."""
        if any(not 0 <= shard < len(self._shards) for shard in shards):
            raise WrongShard
        return [Shard(shard) for shard in shards] or self._shards

    def _by_shard(self, entities: Collection[str]) -> dict[Shard, tuple[EntityId, ...]]:
        found: dict[Shard, list[EntityId]] = defaultdict(list)
        for entity_id in dict.fromkeys(entities):
            found[shard_of(EntityId(entity_id), len(self._shards))].append(EntityId(entity_id))
        return {shard: tuple(ids) for shard, ids in found.items()}
