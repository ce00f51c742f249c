"""The recording read handler and its checker find every fault planted, and none where there is none."""

from __future__ import annotations

import asyncio

import pytest

from cos_ray.domain.errors import DeliveryFailed
from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, Meta, Packed
from cos_ray.testing.read_handlers import Attempt, Outcome, RecordingReadHandler, faults_in

OK, BAD = Outcome.CONFIRMED, Outcome.FAILED
Row = tuple[str, int, Outcome]


def envelope(entity_id: str, revision: int) -> EventEnvelope:
    meta = Meta(EntityId(entity_id), Revision(revision))
    return EventEnvelope(Packed(b"e"), Packed(b"s"), meta, Revision(revision))


def deliver(handler: RecordingReadHandler, entity_id: str, revision: int):
    return handler.handle(ReadSideId("r"), Shard(0), envelope(entity_id, revision))


def book(*lives: list[Row]) -> list[Attempt]:
    """Deliveries one after the other, life by life."""
    attempts: list[Attempt] = []
    for life, rows in enumerate(lives, start=1):
        for entity_id, revision, outcome in rows:
            began = 2 * len(attempts)
            attempts.append(
                Attempt(
                    life, ReadSideId("r"), Shard(0), envelope(entity_id, revision), began, began + 1, outcome
                )
            )
    return attempts


def faults(*lives: list[Row], **histories: int) -> list[str]:
    return faults_in(book(*lives), {EntityId(id_): length for id_, length in histories.items()})


def test_a_book_in_order_has_no_faults():
    assert faults([("a", 1, OK), ("b", 1, OK), ("a", 2, OK)], a=2, b=1) == []


def test_retries_are_no_fault():
    assert faults([("a", 1, BAD), ("a", 1, BAD), ("a", 1, OK), ("a", 2, OK)], a=2) == []


def test_going_back_after_a_restart_is_no_fault():
    assert faults([("a", 1, OK), ("a", 2, OK)], [("a", 1, OK), ("a", 2, OK), ("a", 3, OK)], a=3) == []


@pytest.mark.parametrize(
    ("lives", "fault"),
    [
        ([[("a", 1, OK), ("a", 3, OK)]], "a: first deliveries are [1, 3], not 1..3"),
        ([[("a", 1, OK), ("a", 2, OK)]], "a: first deliveries are [1, 2], not 1..3"),
        ([[("a", 2, OK), ("a", 1, OK), ("a", 3, OK)]], "a: first deliveries are [2, 1, 3], not 1..3"),
        ([[("a", 1, OK), ("a", 2, BAD), ("a", 3, OK)]], "a: revision 2 never confirmed"),
        (
            [[("a", 1, OK), ("a", 2, BAD), ("a", 3, OK), ("a", 2, OK)]],
            "revision 3 begun before 2 was confirmed",
        ),
        ([[("a", 1, BAD)], [("a", 2, OK)]], "a: revision 2 begun before 1 was confirmed"),
        ([[("a", 1, OK), ("a", 2, OK), ("a", 1, OK), ("a", 2, OK)]], "revision 1 follows 2, where 3 was due"),
        ([[("a", 1, OK), ("a", 1, OK)]], "a: revision 1 follows 1, where 2 was due"),
        ([[("a", 1, OK), ("a", 2, OK), ("a", 3, OK), ("x", 1, OK)]], "x: delivered but unknown"),
        ([[]], "a: first deliveries are [], not 1..3"),
    ],
)
def test_a_planted_fault_is_found(lives: list[list[Row]], fault: str):
    assert any(fault in found for found in faults(*lives, a=3))


def test_deliveries_of_one_entity_that_overlap_are_found():
    attempts = book([("a", 1, OK), ("a", 2, OK)])
    attempts[0].ended = 3
    found = faults_in(attempts, {EntityId("a"): 2})
    assert "a: revision 2 begun while 1 was under way" in found
    assert "a: revision 2 begun before 1 was confirmed" in found


async def test_the_handler_confirms_what_it_is_not_told_to_fail():
    handler = RecordingReadHandler()
    await deliver(handler, "a", 1)
    assert [(each.entity_id, each.revision, each.outcome) for each in handler.attempts] == [("a", 1, OK)]


async def test_a_planted_failure_happens_as_often_as_planted():
    handler = RecordingReadHandler()
    handler.fail("a", 2, times=1)
    await deliver(handler, "a", 1)
    with pytest.raises(DeliveryFailed):
        await deliver(handler, "a", 2)
    await deliver(handler, "a", 2)
    assert handler.confirmed("a") == [1, 2]


async def test_a_planted_error_is_raised_as_it_is_until_healed():
    handler = RecordingReadHandler()
    handler.fail(error=OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        await deliver(handler, "b", 1)
    handler.heal()
    await deliver(handler, "b", 1)
    assert handler.confirmed() == [1]


async def test_a_hanging_delivery_is_confirmed_when_let_go():
    handler = RecordingReadHandler()
    gate = handler.hang("a")
    delivery = asyncio.ensure_future(deliver(handler, "a", 1))
    await asyncio.sleep(0)
    assert (handler.under_way, handler.confirmed()) == (1, [])
    gate.set()
    await delivery
    assert (handler.under_way, handler.confirmed()) == (0, [1])
