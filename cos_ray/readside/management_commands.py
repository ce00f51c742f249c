"""
What an operator wants of a read side, done in the process that has the shard.

One order at a time for each shard. Whatever is stored is stored before it takes effect, and in an
order in which dying in between costs repeated deliveries at worst.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack

from typing_extensions import assert_never

from cos_ray.domain.errors import ClaimLost, HistoryWentBack, JournalUnavailable
from cos_ray.domain.ids import EntityId, Offset, Revision, Shard
from cos_ray.domain.read_sides import (
    DropLetters,
    Obeyed,
    Order,
    Refresh,
    Replay,
    ReplayEntities,
    Report,
    RetryLetters,
    ShardState,
    Skip,
)
from cos_ray.ports import Clock, ReadHandler
from cos_ray.readside.dead_letter_retry import DeadLetterRetry
from cos_ray.readside.delivery import Delivery
from cos_ray.readside.offset_keeper import OffsetKeeper
from cos_ray.readside.parking import Parking
from cos_ray.readside.projection import Projection
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.readside.shard_leases import ShardLeases, Term
from cos_ray.readside.skips import Skips
from cos_ray.readside.start_positions import StartPositions
from cos_ray.readside.window import Window

logger = logging.getLogger(__name__)

END = Offset(2**63 - 1)
"""After which nothing comes."""


class ManagementCommands:
    """The orders, and what they are carried out on."""

    def __init__(
        self,
        settings: ReadSideSettings,
        projections: Mapping[Shard, Projection],
        delivery: Delivery,
        offsets: OffsetKeeper,
        parking: Parking,
        skips: Skips,
        stores: Stores,
        handler: ReadHandler,
        clock: Clock,
        claims: ShardLeases,
    ) -> None:
        self._settings = settings
        self._claims = claims
        self._clock = clock
        self._projections = projections
        self._delivery = delivery
        self._offsets = offsets
        offsets.went_back = self.go_back
        self._parking = parking
        self._skips = skips
        self._stores = stores
        self._beginnings = StartPositions(settings, stores)
        self._letters = DeadLetterRetry(settings, stores.letters, parking, handler, clock, claims)
        self._locks: dict[Shard, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self, terms: Mapping[Shard, Term]) -> None:
        """Begin in these shards, where the stored offsets are. Raises JournalUnavailable."""
        async with AsyncExitStack() as stack:
            for shard in sorted(terms):
                await stack.enter_async_context(self._locks[shard])
            await self._open(terms)

    async def _open(self, terms: Mapping[Shard, Term]) -> None:
        shards = terms.keys()
        offsets = await self._offsets.load(shards)
        numbers = {shard: offset for shard, offset in offsets.items() if offset is not None}
        starts = await self._beginnings.find(numbers)
        await self._beginnings.accept({shard: start for shard, start in starts.items() if not numbers[shard]})
        await self._skips.begin(numbers)
        await self._parking.load(shards)
        paused = await self._stores.controls.paused(self._settings.read_side)
        for shard, offset in offsets.items():
            if self._claims.term(shard) is not terms[shard]:
                # Lost meanwhile: whoever has it may be past this offset.
                continue
            projection = self._projections[shard]
            projection.pause(shard in paused)
            if offset is None:
                reason = "the stored offset is no number: restart the shard, or replay it from an offset"
                projection.close(ShardState.STOPPED, reason)
            else:
                self._beginnings.begin(projection, offset, starts[shard])

    async def begin(self) -> bool:
        """Begin in the shards that are new to us. Never raises; False if it has to be tried again."""
        terms = {shard: self._claims.term(shard) for shard in self._projections}
        new = {shard: term for shard, term in terms.items() if term is not None and not term.is_begun}
        for term in new.values():
            term.is_begun = True
        try:
            if new:
                await self.open(new)
        except Exception as error:
            surprise = None if isinstance(error, JournalUnavailable) else error
            facts = {"read_side": self._settings.read_side, "reason": str(error)}
            logger.warning("read side cannot load its offsets", extra=facts, exc_info=surprise)
            for term in new.values():
                term.is_begun = False
            return False
        if new:
            logger.info(
                "read side has shards", extra={"read_side": self._settings.read_side, "shards": sorted(new)}
            )
        return True

    async def refresh(self) -> None:
        """Learn what an operator told somebody else. Never raises."""
        try:
            await self._refresh(frozenset())
        except Exception as error:  # noqa: BLE001
            facts = {"read_side": self._settings.read_side, "reason": str(error)}
            logger.warning("read side does not know its orders", extra=facts)

    def read_failed(self, projection: Projection, window: Window, error: Exception) -> None:
        """A read brought nothing but an error: this shard is not given up, whatever it is."""
        projection.read_failed(window, error)
        if isinstance(error, HistoryWentBack) and window is projection.window:
            self.go_back([projection.shard])

    def go_back(self, shards: Collection[Shard]) -> None:
        """
        The journal no longer has what was read of these shards: begin anew where the stored offsets are.

        They are of the same history as the journal. Others have taken the positions of events that are lost.
        """
        for projection in self._ours(shards):
            projection.close(ShardState.STARTING, str(HistoryWentBack()))
            self._delivery.drop(projection)
            if (term := self._claims.term(projection.shard)) is not None:
                # It is opened with the next renewal, as if it were new to us.
                term.is_begun = False
        self._offsets.forget(shards)
        facts = {
            "read_side": self._settings.read_side,
            "offsets": {shard: self._projections[shard].offset for shard in sorted(shards)},
        }
        logger.error("the journal went back: read side begins anew at its stored offsets", extra=facts)
        self._claims.renew_soon()

    async def is_borne_out(self, projection: Projection) -> bool:
        """
        Whether the journal, as it is now, has what was read of the shard. Raises JournalUnavailable.

        Else what is known of an event may be known of another one, whose place it has been given.
        """
        shard, known = projection.shard, projection.newest_read
        if known is None or shard not in await self._stores.source.stirring({shard: END}, {shard: known}):
            return True
        self.go_back([shard])
        return False

    def interrupt(self, shards: Collection[Shard]) -> None:
        """Our claims are about to run out: cut short what is under way."""
        for shard in shards:
            self._delivery.interrupt(self._projections[shard])
            self._letters.interrupt(shard)

    async def hand_over(self, shard: Shard) -> None:
        """Let what is under way in the shard end, save, give it up. Raises JournalUnavailable, ClaimLost."""
        projection = self._projections[shard]
        async with self._locks[shard]:
            term = self._claims.term(shard)
            if term is None:
                return
            if not term.is_begun:
                # Not opened yet, if it can be: whoever asks may fare better, and there is nothing to save.
                await self._claims.release([shard])
                return
            was_unusable = projection.is_unusable
            projection.suspend()
            await self._delivery.empty(projection, self._settings.hand_over)
            reached = projection.offset
            # What a read under way brings from now on is not taken in.
            projection.close(ShardState.STARTING)
            if self._claims.term(shard) is not term:
                # Lost meanwhile; where it is ours again by now, it is yet to be opened.
                projection.close(ShardState.ELSEWHERE)
                return
            try:
                if not await self._offsets.catch_up(shard):
                    raise ClaimLost(self._settings.read_side, shard)
            except HistoryWentBack as error:
                self.go_back([shard])
                raise JournalUnavailable(str(error)) from error
            except Exception:
                # Whoever asks may be gone by the next renewal. Not from the stored offset: it may be behind.
                self._open_again(projection, term, reached, was_unusable)
                raise
            projection.close(ShardState.ELSEWHERE)
            try:
                await self._claims.release([shard])
            except Exception:
                # It may have been done all the same. If not, the next renewal says that the shard is ours.
                self._claims.forget([shard])
                raise
        self._offsets.forget([shard])

    async def obey(self, order: Order) -> Obeyed:
        """Do as told in the shards that are ours. Raises JournalUnavailable and ClaimLost."""
        match order:
            case Report():
                return self._report()
            case Refresh(resumed):
                await self._refresh(resumed)
                return self._report()
            case Skip(shards):
                begun = await self._go_on_with_what_is_left(shards)
                return await self._skip(shards, begun)
            case Replay(offsets):
                return await self._replay(offsets)
            case ReplayEntities(entities):
                return await self._replay_entities(entities)
            case RetryLetters(entities, within):
                return await self._retry(entities, within)
            case DropLetters(shard, entity_id, revision):
                return await self._drop(shard, entity_id, revision)
            case unreachable:
                assert_never(unreachable)

    def _report(self, count: int = 0, failed: Collection[str] = ()) -> Obeyed:
        ours = [p for p in self._projections.values() if p.is_ours]
        statuses = sorted((projection.status() for projection in ours), key=lambda status: status.shard)
        return Obeyed(tuple(statuses), count, tuple(failed))

    async def _refresh(self, resumed: frozenset[Shard]) -> None:
        paused = await self._stores.controls.paused(self._settings.read_side)
        for shard, projection in self._projections.items():
            if not projection.is_ours:
                continue
            projection.pause(shard in paused)
            if shard in resumed:
                projection.resume()
            if projection.may_deliver:
                self._delivery.release(projection, anew=shard in resumed)

    async def _go_on_with_what_is_left(self, shards: Collection[Shard]) -> int:
        """Begin in the shards that stopped before deleted events; how many those are."""
        count = 0
        for projection in self._ours(shards):
            shard, term = projection.shard, self._claims.term(projection.shard)
            if not projection.is_unusable or term is None:
                continue
            async with self._locks[shard]:
                start = (await self._beginnings.find({shard: projection.offset}))[shard]
                if start.unseen_to(projection.offset) is not None:
                    await self._beginnings.accept({shard: start})
                    await self._open({shard: term})
                    count += 1
        return count

    async def _skip(self, shards: Collection[Shard], skipped: int) -> Obeyed:
        for projection in self._ours(shards):
            if await self._skip_stuck(projection) or projection.skip_barrier():
                skipped += 1
                # What stopped for that event goes on with the next.
                projection.resume()
                self._delivery.release(projection, anew=True)
        return self._report(skipped)

    async def _skip_stuck(self, projection: Projection) -> bool:
        pending = self._delivery.take_stuck(projection)
        if pending is None:
            return False
        try:
            await self._skips.add(pending.shard, pending.event)
        except BaseException:
            self._delivery.put_back(pending)
            raise
        if self._delivery.skip(pending):
            facts: dict[str, object] = {"read_side": self._settings.read_side, "shard": pending.shard}
            facts |= {"entity_id": pending.entity_id, "revision": pending.event.envelope.meta.revision}
            logger.warning("event skipped by an operator", extra=facts)
            return True
        # It was lost, or replayed, meanwhile.
        await self._skips.take_back(pending.shard, pending.event)
        return False

    async def _replay(self, offsets: Mapping[Shard, Offset]) -> Obeyed:
        count = 0
        for projection in self._ours(offsets):
            async with self._locks[projection.shard]:
                if await self._reopen(projection, offsets[projection.shard]):
                    count += 1
        return self._report(count)

    async def _reopen(self, projection: Projection, offset: Offset) -> bool:
        shard, reached = projection.shard, projection.offset
        term, was_unusable = self._claims.term(shard), projection.is_unusable
        if offset > reached and not was_unusable:
            # Never forwards: that would leave events out.
            return False
        projection.suspend()
        await self._delivery.empty(projection, self._settings.settle)
        # What a read under way brings from now on is not taken in.
        projection.close(ShardState.STARTING)
        try:
            if not await self._offsets.reset(shard, offset):
                raise ClaimLost(self._settings.read_side, shard)
            # After the offset: dying in between, an event is rather set aside once more than lost.
            await self._stores.letters.drop_after(self._settings.read_side, shard, offset, self._claims.owner)
            await self._parking.load([shard])
            start = (await self._beginnings.find({shard: offset}))[shard]
            await self._beginnings.accept({shard: start})
        except HistoryWentBack as error:
            self.go_back([shard])
            raise JournalUnavailable(str(error)) from error
        except Exception:
            self._open_again(projection, term, reached, was_unusable)
            raise
        projection.open(offset, start.row, start.remark(offset))
        return True

    def _open_again(
        self, projection: Projection, term: Term | None, reached: Offset, was_unusable: bool
    ) -> None:
        """Go on where it was, if the shard is still ours."""
        if term is None or self._claims.term(projection.shard) is not term:
            projection.close(ShardState.ELSEWHERE)
        elif was_unusable:
            projection.close(ShardState.STOPPED)
        else:
            projection.open(reached, projection.newest_read)

    async def _replay_entities(self, entities: Mapping[Shard, tuple[EntityId, ...]]) -> Obeyed:
        count = 0
        failed = []
        for projection in self._ours(entities):
            async with self._locks[projection.shard]:
                for entity_id in entities[projection.shard]:
                    if self._parking.holds(projection.shard, entity_id):
                        failed.append(f"{entity_id} has dead letters: retry or drop them first")
                    else:
                        count += await self._repeat(projection, entity_id)
        return self._report(count, failed)

    async def _repeat(self, projection: Projection, entity_id: EntityId) -> int:
        """Deliver the entity's earlier events before those that wait; how many that are."""
        window = projection.window
        await self._delivery.hold(projection, entity_id)
        count = 0
        try:
            await self._skips.repeat(projection.shard, entity_id)
            span = await self._stores.positions.span_of(entity_id, window.read_to)
            if span is not None:
                count = projection.repeat(window, entity_id, span)
        finally:
            self._delivery.go_on(projection, entity_id)
        return count

    async def _retry(self, entities: Mapping[Shard, tuple[EntityId, ...]], within: float) -> Obeyed:
        count = 0
        failed: list[str] = []
        for projection in self._ours(entities):
            async with self._locks[projection.shard]:
                done, faults = await self._letters.deliver(
                    projection.shard, entities[projection.shard], within
                )
                count += done
                failed += faults
        return self._report(count, failed)

    async def _drop(self, shard: Shard, entity_id: EntityId, revision: Revision | None) -> Obeyed:
        count = 0
        for _ in self._ours([shard]):
            async with self._locks[shard]:
                count += await self._stores.letters.drop(
                    self._settings.read_side, shard, entity_id, revision, self._claims.owner, confirmed=False
                )
                await self._parking.first(shard, entity_id)
        return self._report(count)

    def _ours(self, shards: Collection[Shard]) -> list[Projection]:
        found = [self._projections[shard] for shard in sorted(shards) if shard in self._projections]
        return [projection for projection in found if projection.is_ours]
