"""What a write handler's answer means."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.decisions import NoChange, Persist, decide
from cos_ray.domain.messages import NOTHING, Packed

A, B, OLD = Packed(b"a"), Packed(b"b"), Packed(b"old")

packed = st.binary(max_size=3).map(Packed)


def test_no_event_is_no_change() -> None:
    assert decide([], NOTHING) == NoChange()


def test_the_older_field_counts_when_there_is_no_list() -> None:
    assert decide([], OLD) == Persist((OLD,))


def test_the_list_counts_before_the_older_field() -> None:
    assert decide([A, B], OLD) == Persist((A, B))


def test_default_entries_are_dropped() -> None:
    assert decide([NOTHING, A, NOTHING, B], NOTHING) == Persist((A, B))


def test_states_go_with_the_first_events() -> None:
    assert decide([A, B], NOTHING, [OLD]) == Persist((A, B), (OLD,))


def test_states_count_for_nothing_where_it_is_in_doubt_to_which_events_they_belong() -> None:
    assert decide([NOTHING, A], NOTHING, [OLD]) == Persist((A,))
    assert decide([A], NOTHING, [OLD, B]) == Persist((A,))


def test_a_list_of_nothing_is_no_change_whatever_the_older_field_says() -> None:
    assert decide([NOTHING, NOTHING], OLD) == NoChange()


@given(st.lists(packed), packed)
def test_what_is_persisted_says_something_and_keeps_its_order(events: list[Packed], single: Packed) -> None:
    match decide(events, single):
        case Persist(kept):
            assert kept
            assert NOTHING not in kept
            assert list(kept) == [event for event in events or [single] if event]
        case NoChange():
            assert not any(events or [single])
