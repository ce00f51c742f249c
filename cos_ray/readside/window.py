"""
What of one shard is read and not yet behind its offset.

Entities are independent, so their events are delivered in any order among each other; each
entity's own events form a lane, of which only the head may be delivered. The offset is the end
of what is settled without a hole: delivered, skipped or set aside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from itertools import islice

from cos_ray.domain.erasure import redacted_event
from cos_ray.domain.ids import EntityId, Offset
from cos_ray.domain.messages import JournaledEvent


class Window:
    """The events between the offset and the place up to which the shard is read."""

    def __init__(self, offset: Offset) -> None:
        self.offset = offset
        """Every event up to here is settled: the offset that may be saved."""
        self.read_to = offset
        """Every event up to here was admitted."""
        self._order: deque[Offset] = deque()
        self._settled: set[Offset] = set()
        self._lanes: dict[EntityId, deque[JournaledEvent]] = {}
        self._again: set[Offset] = set()
        """Those in the lanes that were settled before, and are delivered once more."""

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
        """Be done with the head of a lane; answer with the lane's next event, if there is one."""
        if event.offset in self._again:
            self._again.remove(event.offset)
        else:
            self._count(event.offset)
        entity_id = event.envelope.meta.entity_id
        lane = self._lanes[entity_id]
        lane.popleft()
        if lane:
            return lane[0]
        del self._lanes[entity_id]
        return None

    def step_over(self, offset: Offset) -> None:
        """Leave out the shard's next event, which nobody could admit."""
        self._order.append(offset)
        self.read_to = offset
        self._count(offset)

    def repeat(self, events: Sequence[JournaledEvent]) -> None:
        """Put an entity's earlier events, in order, before those that wait for delivery."""
        for event in reversed(events):
            self._again.add(event.offset)
            self._lanes.setdefault(event.envelope.meta.entity_id, deque()).appendleft(event)

    def head(self, entity_id: EntityId) -> JournaledEvent | None:
        """The entity's event whose turn it is."""
        lane = self._lanes.get(entity_id)
        return lane[0] if lane else None

    def first(self, entity_id: EntityId, count: int) -> list[JournaledEvent]:
        """The entity's next events, at most so many."""
        return list(islice(self._lanes.get(entity_id, ()), count))

    def is_settled(self, offset: Offset) -> bool:
        """Whether the event there is behind us."""
        return (offset <= self.offset or offset in self._settled) and offset not in self._again

    def entities(self) -> Collection[EntityId]:
        """Those of which an event waits here."""
        return self._lanes.keys()

    def redact(self, entity_id: EntityId) -> None:
        """Let what waits of an erased entity say nothing any more; it keeps its places."""
        if (lane := self._lanes.get(entity_id)) is not None:
            self._lanes[entity_id] = deque(map(redacted_event, lane))

    def _count(self, offset: Offset) -> None:
        self._settled.add(offset)
        while self._order and self._order[0] in self._settled:
            self.offset = self._order.popleft()
            self._settled.remove(self.offset)
