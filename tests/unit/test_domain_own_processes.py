"""Who gets a process of its own, and why the others have none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import (
    BARRED_FOR,
    BUSY,
    LONGEST_BARRED,
    Choice,
    Pace,
    Room,
    Why,
    barred_for,
    choose,
)

AT_EASE = Pace(under_way=0, last_took=0.0, since_last=float("inf"))
PLENTY = Room(free=100, rested=0, slots=100)

ids = st.sampled_from([EntityId(f"e{number}") for number in range(12)])
counts = st.integers(0, 20)
paces = st.builds(Pace, st.integers(0, 5), st.floats(0, 10), st.floats(0, 20))


def one(commands: int, room: Room = PLENTY, pace: Pace = AT_EASE) -> Choice:
    return choose({EntityId("e"): commands}, room, pace, (), ())


@given(
    st.dictionaries(ids, st.integers(1, 10)),
    st.builds(Room, counts, counts, counts, st.booleans()),
    paces,
    st.frozensets(ids),
    st.frozensets(ids),
)
def test_a_choice_keeps_to_room_pace_and_order_and_says_why_of_all_others(
    commands: dict[EntityId, int],
    room: Room,
    pace: Pace,
    starting: frozenset[EntityId],
    barred: frozenset[EntityId],
) -> None:
    choice = choose(commands, room, pace, starting, barred)
    assert len(choice.start) + pace.under_way <= max(pace.under_way, min(room.slots, room.free + room.rested))
    assert not choice.start or pace.since_last >= pace.last_took
    # Everyone is told once what becomes of it.
    assert sorted([*choice.start, *choice.others]) == sorted(commands)
    assert all(commands[each] >= BUSY for each in choice.start)
    assert not (room.is_saturated and choice.start)
    assert room.is_saturated or Why.CPU not in choice.others.values()
    assert not {*choice.start} & (starting | barred)
    kept_waiting = [each for each, why in choice.others.items() if why in (Why.PACED, Why.NO_ROOM)]
    # No one who waits is busier than one who need not.
    assert all(commands[one] >= commands[other] for one in choice.start for other in kept_waiting)
    for each in kept_waiting:
        assert commands[each] >= BUSY
    if Why.NO_ROOM in choice.others.values():
        assert len(choice.start) + pace.under_way <= room.free + room.rested or not choice.start


def test_an_entity_used_again_and_again_gets_a_process_and_one_used_seldom_gets_none() -> None:
    assert one(BUSY).start == ("e",)
    assert one(BUSY - 1).others == {"e": Why.SELDOM}


def test_without_room_nothing_starts_unless_one_that_rests_can_make_room() -> None:
    assert one(BUSY, Room(free=0, rested=0, slots=2)).others == {"e": Why.NO_ROOM}
    assert one(BUSY, Room(free=0, rested=1, slots=2)).start == ("e",)


def test_starts_take_half_of_the_time_at_the_most() -> None:
    assert one(BUSY, pace=Pace(0, last_took=3.0, since_last=2.9)).others == {"e": Why.PACED}
    assert one(BUSY, pace=Pace(0, last_took=3.0, since_last=3.0)).start == ("e",)


def test_where_another_has_to_leave_for_it_starts_take_a_tenth_of_the_time() -> None:
    full = Room(free=0, rested=1, slots=1)
    assert one(BUSY, full, Pace(0, last_took=1.0, since_last=8.9)).others == {"e": Why.PACED}
    assert one(BUSY, full, Pace(0, last_took=1.0, since_last=9.0)).start == ("e",)


def test_an_entity_that_loses_its_process_again_and_again_waits_ever_longer_but_not_for_ever() -> None:
    waits = [barred_for(losses) for losses in range(1, 100)]
    assert waits[0] == BARRED_FOR
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_BARRED
