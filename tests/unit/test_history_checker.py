"""The judge of histories finds every fault planted among calls, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import EventEnvelope, JournaledEvent, Meta, Packed
from cos_ray.testing.history import Call, Ending, faults_of_calls

A = EntityId("a")
DONE, DENIED, UNKNOWN = Ending.DONE, Ending.DENIED, Ending.UNKNOWN


def journal(*events: str, entity_id: EntityId = A) -> list[JournaledEvent]:
    """These events, in order; the state after each is named after it."""
    return [
        JournaledEvent(
            Offset(number),
            EventEnvelope(
                Packed(event.encode()),
                Packed(f"after {event}".encode()),
                Meta(entity_id, Revision(number)),
                Revision(number),
            ),
        )
        for number, event in enumerate(events, start=1)
    ]


def call(events: str, began: float, ended: float, ending: Ending = DONE, revision: int = 0) -> Call:
    """A call that leads to these events, one per letter."""
    state = Packed(f"after {events[-1]}".encode()) if events and ending is DONE else None
    packed = tuple(Packed(event.encode()) for event in events)
    return Call(A, packed, began, ended, ending, Revision(revision), state)


GOOD = [
    call("x", 0, 1, revision=1),
    call("", 1.5, 2, revision=1),
    call("yz", 2.5, 4, revision=3),
    call("w", 3, 5, DENIED),
    call("u", 3, 5, UNKNOWN),
    call("v", 3, 5, UNKNOWN),
    call("", 6, 7, revision=3),
]


def test_what_was_acknowledged_and_is_there_has_no_faults() -> None:
    assert faults_of_calls(journal("x", "y", "z"), GOOD) == []


def test_an_unknown_call_may_be_stored_even_after_it_ended() -> None:
    assert faults_of_calls(journal("x", "y", "z", "u", "v"), GOOD) == []


def test_entities_are_judged_apart() -> None:
    other = replace(call("x", 0, 1, revision=1), entity_id=EntityId("b"))
    rows = journal("x", entity_id=EntityId("b"))
    both = journal("x", "y", "z") + [replace(row, offset=Offset(9)) for row in rows]
    assert faults_of_calls(both, [*GOOD, other]) == []


@pytest.mark.parametrize(
    ("stored", "fault"),
    [
        ("x", "done at revision 3 lies at []"),
        ("xyzy", "an event is there more than once"),
        ("yzx", "done at revision 1 lies at [3]"),
        ("xyuz", "in part or scattered, as [2, 4]"),
        ("xy", "in part or scattered, as [2]"),
        ("xyzw", "what was denied at revision 0 is there, as [4]"),
        ("xyzq", "nobody asked for the event at 4"),
    ],
)
def test_a_planted_fault_of_the_journal_is_found(stored: str, fault: str) -> None:
    assert any(fault in found for found in faults_of_calls(journal(*stored), GOOD))


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (call("", 6, 7, revision=2), "revision 2 was answered when 3 was known"),
        (call("", 6, 7, revision=0), "revision 0 was answered when 3 was known"),
        (replace(call("x", 6, 7, UNKNOWN)), "revision 1 was asked for when 3 was known"),
        (replace(GOOD[0], state=Packed(b"other")), "another state in the journal"),
        (replace(GOOD[2], revision=Revision(4)), "done at revision 4 lies at [2, 3]"),
    ],
)
def test_a_planted_fault_of_an_answer_is_found(wrong: Call, fault: str) -> None:
    calls = [GOOD[2] if wrong.events == (b"x",) else GOOD[0], *GOOD[1:], wrong]
    assert any(fault in found for found in faults_of_calls(journal("x", "y", "z"), calls))


@pytest.mark.parametrize("numbers", [[1, 2, 4], [1, 2, 2], [2, 3, 4]])
def test_a_gap_or_a_repeated_number_is_found(numbers: list[int]) -> None:
    rows = [
        replace(row, envelope=replace(row.envelope, sequence_number=Revision(number)))
        for row, number in zip(journal("x", "y", "z"), numbers, strict=True)
    ]
    assert any("its events are numbered" in found for found in faults_of_calls(rows, GOOD))
