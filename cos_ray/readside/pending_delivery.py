"""An event on its way to the read handler."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cos_ray.domain.ids import EntityId, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.readside.projection import Projection


@dataclass(slots=True, eq=False)
class PendingDelivery:
    """An event on its way, whose predecessors of the same entity are all settled."""

    projection: Projection
    event: JournaledEvent
    failures: int = 0
    is_stuck: bool = False
    """Whether it was tried and not confirmed."""
    is_single: bool = False
    """Whether it is delivered alone, for a call with others has failed."""
    task: asyncio.Task[None] | None = None
    """The delivery that is under way."""

    @property
    def shard(self) -> Shard:
        """Where it lies."""
        return self.projection.shard

    @property
    def entity_id(self) -> EntityId:
        """Whose event it is."""
        return self.event.envelope.meta.entity_id

    def again(self) -> PendingDelivery:
        """The same, not yet under way: what becomes of this one does not count any more."""
        return PendingDelivery(self.projection, self.event, self.failures, self.is_stuck, self.is_single)
