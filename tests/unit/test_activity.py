"""How many commands entities have had lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.ids import EntityId
from cos_ray.domain.own_processes import BUSY, LATELY
from cos_ray.placement import activity
from cos_ray.placement.activity import Activity

ONE, OTHER = EntityId("one"), EntityId("other")


def test_who_is_used_once_is_not_worth_a_look_and_who_is_used_often_is() -> None:
    counted = Activity(0.0)
    for number in range(1000):
        counted.note(EntityId(f"once-{number}"))
    for _ in range(BUSY):
        counted.note(ONE)
    assert counted.busy(1.0) == {ONE: BUSY}


def test_commands_of_long_ago_do_not_count() -> None:
    counted = Activity(0.0)
    for _ in range(BUSY):
        counted.note(ONE)
    assert counted.busy(LATELY / 2) == {ONE: BUSY}
    assert counted.busy(LATELY) == {}
    assert counted.is_idle


def test_after_a_time_without_a_look_nothing_old_counts() -> None:
    counted = Activity(0.0)
    for _ in range(BUSY):
        counted.note(ONE)
    assert counted.busy(10 * LATELY) == {}


def test_one_that_is_forgotten_begins_anew() -> None:
    counted = Activity(0.0)
    for _ in range(BUSY):
        counted.note(ONE)
        counted.note(OTHER)
    counted.forget(ONE)
    counted.note(ONE)
    assert counted.busy(1.0) == {OTHER: BUSY}


def test_ever_new_entities_take_bounded_memory(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(activity, "MOST", 100)
    counted = Activity(0.0)
    for number in range(10_000):
        counted.note(EntityId(f"once-{number}"))
    assert len(counted._newer) <= 100


@given(st.lists(st.tuples(st.sampled_from([ONE, OTHER]), st.floats(0, LATELY / 2 - 0.01))))
def test_within_half_the_time_every_command_counts(commands: list[tuple[EntityId, float]]) -> None:
    counted = Activity(0.0)
    for entity_id, _ in commands:
        counted.note(entity_id)
    numbers = {each: sum(one == each for one, _ in commands) for each in (ONE, OTHER)}
    assert counted.busy(0.0) == {each: number for each, number in numbers.items() if number >= BUSY}
