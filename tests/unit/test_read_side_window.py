"""The window and the check for gaps: what may be delivered, and how far the offset may go."""

from __future__ import annotations

import pytest

from cos_ray.domain.errors import HistoryGap
from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, JournaledEvent, Meta, Packed
from cos_ray.readside.gap_detector import GapDetector
from cos_ray.readside.window import Window


def event(offset: int, entity_id: str, revision: int) -> JournaledEvent:
    meta = Meta(EntityId(entity_id), Revision(revision))
    return JournaledEvent(Offset(offset), EventEnvelope(Packed(b"e"), Packed(b"s"), meta, Revision(revision)))


def continuity(after: int = 0, capacity: int = 100) -> GapDetector:
    return GapDetector(ReadSideId("r"), Shard(3), Offset(after), capacity)


class TestWindow:
    def test_an_empty_window_stands_at_its_offset(self):
        window = Window(Offset(7))
        assert (window.offset, window.read_to, len(window)) == (7, 7, 0)

    def test_only_the_first_event_of_an_entity_may_be_delivered_at_once(self):
        window = Window(Offset(0))
        assert [window.admit(event(1, "a", 1)), window.admit(event(2, "a", 2))] == [True, False]
        assert window.admit(event(3, "b", 1))

    def test_a_delivered_event_makes_way_for_its_entitys_next(self):
        window = Window(Offset(0))
        first, second = event(1, "a", 1), event(2, "a", 2)
        window.admit(first)
        window.admit(second)
        assert window.settle(first) is second
        assert window.settle(second) is None

    def test_the_offset_stops_before_the_first_event_not_delivered(self):
        window = Window(Offset(0))
        events = [event(2, "a", 1), event(5, "b", 1), event(9, "c", 1)]
        for each in events:
            window.admit(each)
        window.settle(events[2])
        assert (window.offset, len(window)) == (0, 2)
        window.settle(events[0])
        assert (window.offset, len(window)) == (2, 1)
        window.settle(events[1])
        assert (window.offset, len(window)) == (9, 0)


class TestContinuity:
    def test_an_entitys_consecutive_events_pass(self):
        check = continuity()
        for offset, revision in [(1, 1), (2, 2), (5, 3)]:
            check.check(event(offset, "a", revision))

    def test_the_first_event_seen_of_an_entity_may_have_any_number(self):
        continuity(after=40).check(event(41, "a", 17))

    @pytest.mark.parametrize("revision", [3, 1, 0, 7])
    def test_anything_but_the_next_number_is_a_gap(self, revision):
        check = continuity()
        check.check(event(1, "a", 1))
        with pytest.raises(HistoryGap) as caught:
            check.check(event(2, "a", revision))
        assert (caught.value.shard, caught.value.entity_id, caught.value.offset) == (3, "a", 2)

    def test_what_made_a_gap_is_not_counted_as_seen(self):
        check = continuity()
        check.check(event(1, "a", 1))
        with pytest.raises(HistoryGap):
            check.check(event(3, "a", 3))
        check.check(event(2, "a", 2))
        check.check(event(3, "a", 3))

    @pytest.mark.parametrize("offset", [10, 9])
    def test_an_offset_that_does_not_rise_is_a_gap(self, offset):
        with pytest.raises(HistoryGap):
            continuity(after=10).check(event(offset, "a", 1))

    def test_the_entity_seen_longest_ago_is_forgotten_first(self):
        check = continuity(capacity=2)
        for offset, entity_id in enumerate(["a", "b", "a", "c"], start=1):
            check.check(event(offset, entity_id, 2 if offset == 3 else 1))
        check.check(event(5, "b", 9))  # forgotten
        with pytest.raises(HistoryGap):
            check.check(event(6, "c", 9))
