"""
What of one shard is read and not yet behind its offset.

Entities are independent, so their events are delivered in any order among each other; each
entity's own events form a lane, of which only the head may be delivered. The offset is the end
of what is delivered without a hole.
"""

from __future__ import annotations

from collections import deque

from cos_ray.domain.ids import EntityId, Offset
from cos_ray.domain.messages import JournaledEvent


class Window:
    """The events between the offset and the place up to which the shard is read."""

    def __init__(self, offset: Offset) -> None:
        self.offset = offset
        """Every event up to here is delivered: the offset that may be saved."""
        self.read_to = offset
        """Every event up to here was admitted."""
        self._order: deque[Offset] = deque()
        self._delivered: set[Offset] = set()
        self._lanes: dict[EntityId, deque[JournaledEvent]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def admit(self, event: JournaledEvent) -> bool:
        """Take in the shard's next event; True if it may be delivered at once."""
        self._order.append(event.offset)
        self.read_to = event.offset
        lane = self._lanes.setdefault(event.envelope.meta.entity_id, deque())
        lane.append(event)
        return len(lane) == 1

    def settle(self, event: JournaledEvent) -> JournaledEvent | None:
        """Count the head of a lane as delivered; answer with the lane's next event, if there is one."""
        self._delivered.add(event.offset)
        while self._order and self._order[0] in self._delivered:
            self.offset = self._order.popleft()
            self._delivered.remove(self.offset)
        entity_id = event.envelope.meta.entity_id
        lane = self._lanes[entity_id]
        lane.popleft()
        if lane:
            return lane[0]
        del self._lanes[entity_id]
        return None
