"""Whatever is left in the journal and read again, the offset is never past what is not settled."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import EventEnvelope, JournaledEvent, Meta, Packed
from cos_ray.domain.read_sides import Span
from cos_ray.readside.window import Held, Window

ENTITIES = 4


class Shard:
    """A shard, its window, and by the plainest means what must be true of it."""

    def __init__(self) -> None:
        self.held = Held()
        self.window = Window(Offset(0), self.held)
        self.events: dict[int, list[JournaledEvent]] = {entity: [] for entity in range(ENTITIES)}
        self.unsettled: set[int] = set()
        """The offsets of events that were admitted and never settled."""
        self.due: dict[int, int] = dict.fromkeys(range(ENTITIES), 1)
        self.newest = 0
        self.offset = 0

    def admit(self, entity: int) -> None:
        # Offsets have holes.
        self.newest += 1 + self.newest % 3
        number = Revision(len(self.events[entity]) + 1)
        meta = Meta(id_of(entity), number)
        envelope = EventEnvelope(Packed(b"e" * 10), Packed(b"s"), meta, number)
        event = JournaledEvent(Offset(self.newest), envelope)
        self.events[entity].append(event)
        self.unsettled.add(event.offset)
        is_free = self.due[entity] == number
        assert self.window.admit(event) is is_free

    def settle(self, entity: int) -> None:
        head = self.window.head(id_of(entity))
        if head is None:
            return
        assert head.envelope.sequence_number == self.due[entity]
        self.unsettled.discard(head.offset)
        self.due[entity] += 1
        following = self.window.settle(head)
        assert following is self.window.head(id_of(entity))

    def thin_out(self, entity: int) -> None:
        self.window.thin_out([id_of(entity)])

    def take_back(self, entity: int, count: int) -> None:
        first = self.window.missing(id_of(entity))
        if first is None:
            return
        assert first == self.due[entity]
        page = self.events[entity][first - 1 : first - 1 + count]
        assert self.window.take_back(id_of(entity), page) is page[0]

    def repeat(self, entity: int) -> None:
        events = self.events[entity]
        if events:
            span = Span(len(events), Revision(1), Revision(len(events)))
            assert self.window.repeat(id_of(entity), span) == self.due[entity] - 1
            self.due[entity] = 1

    def check(self) -> None:
        window = self.window
        first = min(self.unsettled, default=None)
        assert self.offset <= window.offset <= window.read_to == self.newest
        self.offset = window.offset
        if first is None:
            assert window.offset == self.newest
        else:
            assert window.offset < first
        if first is not None and window.pending == len(window):
            # Nothing is left in the journal: it is as far as may be.
            settled = (e.offset for each in self.events.values() for e in each if e.offset < first)
            assert window.offset >= max(settled, default=0)
        waiting = 0
        for entity, events in self.events.items():
            waiting += len(events) + 1 - self.due[entity]
            for event in events:
                number = event.envelope.sequence_number
                is_settled = number < self.due[entity]
                assert window.is_settled(id_of(entity), number, event.offset) is is_settled
        assert window.pending == waiting
        assert self.held.octets == window.octets
        assert (window.octets == 0) is (len(window) == 0)


def id_of(entity: int) -> EntityId:
    return EntityId(f"e{entity}")


entities = st.integers(0, ENTITIES - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), entities),
        st.tuples(st.just("admit"), entities),
        st.tuples(st.just("settle"), entities),
        st.tuples(st.just("thin_out"), entities),
        st.tuples(st.just("take_back"), entities, st.integers(1, 4)),
        st.tuples(st.just("repeat"), entities),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps=steps)
def test_the_offset_is_the_end_of_what_is_settled_without_a_hole(steps):
    shard = Shard()
    for name, *arguments in steps:
        getattr(shard, name)(*arguments)
        shard.check()
    for entity in range(ENTITIES):
        while shard.window.due(id_of(entity)) is not None:
            shard.take_back(entity, 3)
            shard.settle(entity)
            shard.check()
    assert (shard.window.offset, len(shard.window)) == (shard.newest, 0)
