"""
Notices when an event is missing, before anything behind it is delivered.

The journal promises that a shard's events become visible in the order of their offsets. This
is the check that it keeps the promise: offsets rise, and of each entity come n, n+1.
"""

from __future__ import annotations

from collections import OrderedDict

from cos_ray.domain.errors import HistoryGap
from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard
from cos_ray.domain.messages import JournaledEvent


class GapDetector:
    """What was seen of one shard's entities; of the last `capacity` of them, to bound its memory."""

    def __init__(self, read_side: ReadSideId, shard: Shard, after: Offset, capacity: int) -> None:
        self._read_side = read_side
        self._shard = shard
        self._offset = after
        self._capacity = capacity
        self._seen: OrderedDict[EntityId, Revision] = OrderedDict()

    def check(self, event: JournaledEvent) -> None:
        """
        Take note of the event. Raises HistoryGap, and notes nothing, unless it is its entity's next.

        The first one seen of an entity may have any number: its predecessors lie before the offset.
        """
        entity_id = event.envelope.meta.entity_id
        seen = self._seen.get(entity_id)
        # A number seen before is as bad as one too high: it too would be handed over out of order.
        is_next = seen is None or event.envelope.sequence_number == seen + 1
        if not is_next or event.offset <= self._offset:
            raise HistoryGap(self._read_side, self._shard, entity_id, event.offset)
        self._offset = event.offset
        self._seen[entity_id] = event.envelope.sequence_number
        self._seen.move_to_end(entity_id)
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)

    def forget(self) -> None:
        """Let the next event of every entity have any number: an operator wants to go on."""
        self._seen.clear()

    def newest_of(self, entity_id: EntityId) -> Revision | None:
        """The newest sequence number seen of the entity; None if none was, or it is forgotten."""
        return self._seen.get(entity_id)
