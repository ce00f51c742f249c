"""
What of one shard is read and not yet behind its offset.

Entities are independent, so their events are delivered in any order among each other; each
entity's own events form a lane, of which only the head may be delivered. The offset is the end
of what is settled without a hole: delivered, skipped or set aside.

Of an entity that fails, what comes after the head can be left in the journal, to be read again when
its turn comes. So an entity that fails for days takes up one event, however many it or others have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cos_ray.domain.erasure import redacted_event
from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.read_sides import Span
from cos_ray.readside.lowest_offsets import LowestOffsets

OVERHEAD = 500
"""Bytes that an event takes beside what it and its state say, about."""


class EventMissing(Exception):
    """An event that was read before is not in the journal any more; the argument is its sequence number."""


@dataclass(slots=True)
class Held:
    """What all windows of a process hold."""

    octets: int = 0


@dataclass(slots=True)
class _Left:
    """What of an entity is left in the journal, though the shard is read further: a span of its history."""

    due: Revision
    """The first of it, to be read again."""
    last: Revision
    unsettled_from: Revision
    """What comes before this was settled already, and is delivered once more."""


class Window:
    """The events between the offset and the place up to which the shard is read."""

    def __init__(self, offset: Offset, held: Held | None = None) -> None:
        self.read_to = offset
        """Every event up to here was admitted."""
        self._lanes: dict[EntityId, deque[JournaledEvent]] = {}
        self._left: dict[EntityId, _Left] = {}
        self._floors: LowestOffsets[Offset | EntityId] = LowestOffsets()
        """Of each unsettled event in a lane, and of what is left of an entity, the offset before it."""
        self._held = held or Held()
        self._count = 0
        self.octets = 0
        """Bytes that its events take."""

    def __len__(self) -> int:
        """How many events it holds."""
        return self._count

    @property
    def offset(self) -> Offset:
        """Every event up to here is settled: the offset that may be saved."""
        lowest = self._floors.lowest()
        return self.read_to if lowest is None else lowest

    @property
    def pending(self) -> int:
        """How many events are not settled, those included that are left in the journal."""
        return self._count + sum(left.last - left.due + 1 for left in self._left.values())

    def admit(self, event: JournaledEvent) -> bool:
        """Take in the shard's next event; True if it may be delivered at once."""
        before, self.read_to = self.read_to, event.offset
        entity_id = event.envelope.meta.entity_id
        if (left := self._left.get(entity_id)) is not None:
            self._leave(entity_id, left, event.envelope.sequence_number, before)
            return False
        self._floors.put(event.offset, before)
        lane = self._lanes.setdefault(entity_id, deque())
        self._hold(lane, event)
        return len(lane) == 1

    def settle(self, event: JournaledEvent) -> JournaledEvent | None:
        """Be done with the head of a lane; answer with the lane's next event, if there is one."""
        entity_id = event.envelope.meta.entity_id
        lane = self._lanes[entity_id]
        self._floors.drop(event.offset)
        self._let_go(lane.popleft())
        if lane:
            return lane[0]
        del self._lanes[entity_id]
        return None

    def step_over(self, offset: Offset) -> None:
        """Leave out the shard's next event, which nobody could admit."""
        self.read_to = offset

    def thin_out(self, entities: Iterable[EntityId]) -> None:
        """Leave in the journal what comes after the heads of these entities."""
        for entity_id in entities:
            lane = self._lanes.get(entity_id)
            if lane is not None and len(lane) > 1:
                self._drop(entity_id, list(lane)[1:])
                self._lanes[entity_id] = deque([lane[0]])

    def repeat(self, entity_id: EntityId, span: Span) -> int:
        """Deliver these events of the entity once more, before those that wait; how many that makes."""
        due = self.due(entity_id)
        settled_to = span.last if due is None else Revision(due - 1)
        if settled_to < span.first:
            return 0
        self._drop(entity_id, self._lanes.pop(entity_id, ()))
        left = self._left.get(entity_id)
        if left is None:
            left = self._left[entity_id] = _Left(span.first, span.last, Revision(span.last + 1))
        left.due = span.first
        return min(span.events, settled_to - span.first + 1)

    def take_back(self, entity_id: EntityId, events: Sequence[JournaledEvent]) -> JournaledEvent | None:
        """
        Have again what was left of an entity in the journal, as far as it was read; its first event.

        None if it is not due any more. Raises EventMissing unless the first is the one that is due.
        """
        left = self._left.get(entity_id)
        if left is None or entity_id in self._lanes:
            return None
        lane: deque[JournaledEvent] = deque()
        for event in events:
            number = event.envelope.sequence_number
            if not lane and left.due < number <= left.unsettled_from:
                # Of what was delivered before, the oldest may have been deleted since.
                left.due = number
            if number != left.due or number > left.last:
                break
            if number >= left.unsettled_from:
                # No other event of the entity lies before it that is not settled.
                self._floors.put(event.offset, Offset(event.offset - 1))
            self._hold(lane, event)
            left.due = Revision(number + 1)
        if not lane and left.unsettled_from > left.last:
            # All of it was delivered before, and has been deleted since.
            self.step_over_left(entity_id, None)
            return None
        if not lane:
            raise EventMissing(left.due)
        self._lanes[entity_id] = lane
        self._rise(entity_id, left, lane[-1].offset)
        return lane[0]

    def step_over_left(self, entity_id: EntityId, to: Revision | None) -> None:
        """Go on with this one of the events that are left of an entity; None: with none of them."""
        left = self._left[entity_id]
        left.due = Revision(left.last + 1) if to is None else to
        self._rise(entity_id, left, Offset(0))

    def head(self, entity_id: EntityId) -> JournaledEvent | None:
        """The entity's event whose turn it is, unless it has to be read again (see `missing`)."""
        lane = self._lanes.get(entity_id)
        return lane[0] if lane else None

    def due(self, entity_id: EntityId) -> Revision | None:
        """The sequence number of the entity's event whose turn it is; None if all are settled."""
        head = self.head(entity_id)
        return self.missing(entity_id) if head is None else head.envelope.sequence_number

    def missing(self, entity_id: EntityId) -> Revision | None:
        """From which event on the entity's have to be read again now; None if none have."""
        left = None if entity_id in self._lanes else self._left.get(entity_id)
        return None if left is None else left.due

    def entities(self) -> Collection[EntityId]:
        """Those of which an event waits here."""
        return self._lanes.keys()

    def redact(self, entity_id: EntityId) -> None:
        """Let what waits of an erased entity say nothing any more; it keeps its positions."""
        if (lane := self._lanes.get(entity_id)) is not None:
            before = sum(map(size_of, lane))
            self._lanes[entity_id] = redacted = deque(map(redacted_event, lane))
            self._weigh(0, sum(map(size_of, redacted)) - before)

    def first(self, entity_id: EntityId, count: int, octets: int) -> list[JournaledEvent]:
        """The entity's next events, at most so many or so many bytes; one, however large."""
        found: list[JournaledEvent] = []
        for event in self._lanes.get(entity_id, ()):
            octets -= size_of(event)
            if len(found) == count or (found and octets < 0):
                break
            found.append(event)
        return found

    def is_settled(self, entity_id: EntityId, number: Revision, offset: Offset) -> bool:
        """Whether this event of the shard is behind us."""
        left = self._left.get(entity_id)
        if offset > self.read_to or (left is not None and left.due <= number <= left.last):
            return False
        return all(event.offset != offset for event in self._lanes.get(entity_id, ()))

    def close(self) -> None:
        """Hold nothing any more; the offset stays."""
        self._held.octets -= self.octets
        self._count = self.octets = 0

    def _drop(self, entity_id: EntityId, events: Iterable[JournaledEvent]) -> None:
        """Leave these in the journal, which are the last of the entity's lane."""
        events = list(events)
        for event in reversed(events):
            number, floor = event.envelope.sequence_number, self._floors.get(event.offset)
            self._floors.drop(event.offset)
            self._let_go(event)
            left = self._left.get(entity_id)
            if left is None:
                left = self._left[entity_id] = _Left(number, number, Revision(number + 1))
            left.due = number
            if floor is not None:
                left.unsettled_from = number
                self._floors.put(entity_id, floor)

    def _leave(self, entity_id: EntityId, left: _Left, number: Revision, before: Offset) -> None:
        if left.unsettled_from > left.last:
            left.unsettled_from = number
            self._floors.put(entity_id, before)
        left.last = number

    def _rise(self, entity_id: EntityId, left: _Left, reached: Offset) -> None:
        """So far it is read again."""
        if left.due > left.last:
            del self._left[entity_id]
            self._floors.drop(entity_id)
        elif (floor := self._floors.get(entity_id)) is not None and reached > floor:
            self._floors.put(entity_id, reached)

    def _hold(self, lane: deque[JournaledEvent], event: JournaledEvent) -> None:
        lane.append(event)
        self._weigh(1, size_of(event))

    def _let_go(self, event: JournaledEvent) -> None:
        self._weigh(-1, -size_of(event))

    def _weigh(self, count: int, octets: int) -> None:
        self._count += count
        self.octets += octets
        self._held.octets += octets


def size_of(event: JournaledEvent) -> int:
    """Bytes that it takes, about."""
    return len(event.envelope.event) + len(event.envelope.resulting_state) + OVERHEAD
