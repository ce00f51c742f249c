"""The stand-ins do what they say, and the judge of histories sees what is wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from cos_ray.domain.errors import CosError, EventRefused, JournalUnavailable, OutcomeUnknown, RevisionConflict
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, Revision, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.ports import Clock, EventSource, Journal, OffsetStore
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.history import faults_of_history
from cos_ray.testing.journal import Fault, MemoryJournal
from cos_ray.testing.offsets import MemoryReadSides
from tests.support.journal import append_of, read_all


def test_they_are_what_the_ports_ask_for() -> None:
    journal: Journal = MemoryJournal()
    source: EventSource = MemoryJournal()
    offsets: OffsetStore = MemoryReadSides()
    clock: Clock = ManualClock()
    assert all([journal, source, offsets, clock])


@pytest.mark.parametrize(
    ("fault", "error", "is_stored"),
    [
        (Fault.CONFLICT, RevisionConflict, False),
        (Fault.UNAVAILABLE, JournalUnavailable, False),
        (Fault.REFUSED, EventRefused, False),
        (Fault.UNKNOWN_BUT_STORED, OutcomeUnknown, True),
        (Fault.UNKNOWN_AND_NOT_STORED, OutcomeUnknown, False),
    ],
)
async def test_a_planted_fault_befalls_one_append(
    fault: Fault, error: type[CosError], is_stored: bool
) -> None:
    journal = MemoryJournal()
    append = append_of("a", 0)
    journal.plant(fault)
    with pytest.raises(error):
        await journal.append(append)
    stored = await journal.stored_by(append.entity_id, append.command_id)
    assert (stored is not None) is is_stored
    assert await journal.append(append) == 1


async def test_out_of_reach_nothing_works() -> None:
    journal, offsets = MemoryJournal(), MemoryReadSides()
    journal.reachable = offsets.reachable = False
    for call in (
        journal.append(append_of("a", 0)),
        journal.newest(EntityId("a")),
        journal.after(Shard(0), Offset(0), 1),
        offsets.load(ReadSideId("a")),
        offsets.save(ReadSideId("a"), {}, Owner("me")),
    ):
        with pytest.raises(JournalUnavailable):
            await call
    journal.reachable = True
    assert await read_all(journal) == []


async def test_sleepers_wake_at_their_own_times_and_may_sleep_again() -> None:
    clock = ManualClock()
    began = clock.now()
    log: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float, times: int) -> None:
        for _ in range(times):
            await clock.sleep(seconds)
            log.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleep("slow", 2.5, 1)), asyncio.create_task(sleep("quick", 1, 3))]
    await clock.pass_time(timedelta(seconds=0.5))
    assert clock.sleepers == 2
    await clock.pass_time(2.5)
    assert log == [("quick", 1), ("quick", 2), ("slow", 2.5), ("quick", 3)]
    assert clock.now() - began == timedelta(seconds=3)
    await asyncio.gather(*tasks)
    assert clock.sleepers == 0


async def test_time_can_leap_and_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    tasks = [asyncio.create_task(clock.sleep(seconds)) for seconds in (1, 2, 3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    assert clock.sleepers == 2
    clock.advance(10)
    await asyncio.gather(tasks[0], tasks[2])
    assert clock.monotonic() == 10


async def test_the_judge_finds_each_kind_of_fault() -> None:
    journal = MemoryJournal()
    appends = [append_of("a", 0, events=2), append_of("a", 2), append_of("b", 0)]
    told = [(append, await journal.append(append)) for append in appends]
    history = await read_all(journal)
    a1, a2, a3, b1 = sorted(history, key=lambda event: event.offset)
    assert faults_of_history(history, told, [append_of("a", 0)]) == []
    assert faults_of_history([a1, a3, b1], told) != [], "a gap"
    assert faults_of_history([a1, a2, b1], told) != [], "an acknowledged event is lost"
    assert faults_of_history([a1, a2, a3], told) != [], "an acknowledged entity is lost"
    again = JournaledEvent(Offset(9), replace(a3.envelope, sequence_number=Revision(4)))
    assert faults_of_history([*history, again], told) != [], "an event is doubled"
    assert faults_of_history([*history, a1], told) != [], "an offset is doubled"
    swapped = [replace(a1, offset=a2.offset), replace(a2, offset=a1.offset), a3, b1]
    assert faults_of_history(swapped, told) != [], "the order is wrong"
    assert faults_of_history(history, told[:2], [appends[2]]) != [], "a denied append is there"
    assert faults_of_history(history, [(appends[2], Offset(99))]) != [], "an offset is not what was said"
