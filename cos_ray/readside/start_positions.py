"""
Where a read side begins in a shard: what the journal has there, and whether something would be left out.

A stored offset is trusted only as far as the journal bears it out: it may lie beyond the journal's end,
or before events that were deleted unseen.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from cos_ray.domain.ids import Offset, Shard
from cos_ray.domain.read_sides import ShardState, Start
from cos_ray.readside.projection import Projection
from cos_ray.readside.settings import ReadSideSettings, Stores

logger = logging.getLogger(__name__)


class StartPositions:
    """Those of one read side."""

    def __init__(self, settings: ReadSideSettings, stores: Stores) -> None:
        self._read_side = settings.read_side
        self._stores = stores

    async def find(self, offsets: Mapping[Shard, Offset]) -> Mapping[Shard, Start]:
        """What there is at these offsets. Raises JournalUnavailable."""
        return await self._stores.positions.starts(self._read_side, offsets)

    async def accept(self, starts: Mapping[Shard, Start]) -> None:
        """
        Go on without what was deleted: at the beginning, and where an operator says so.

        Raises JournalUnavailable.
        """
        unseen = {shard: start.unseen_to(Offset(0)) for shard, start in starts.items()}
        deleted = {shard: offset for shard, offset in unseen.items() if offset is not None}
        if deleted:
            await self._stores.controls.accept_losses(self._read_side, deleted)
            facts = {"read_side": self._read_side, "deleted_up_to": deleted}
            logger.warning("read side begins with what is left of a journal with deletions", extra=facts)

    def begin(self, projection: Projection, offset: Offset, start: Start) -> None:
        """Begin after the offset, unless something would be left out without a word."""
        fault = start.fault(offset)
        if fault is None:
            projection.open(offset, start.row, start.remark(offset))
            return
        projection.close(ShardState.STOPPED, fault)
        facts = {"read_side": self._read_side, "shard": projection.shard, "reason": fault}
        logger.error("read side does not begin in a shard", extra=facts)
