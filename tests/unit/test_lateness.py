"""How late a message comes, and what becomes of a command that comes too late."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.errors import OUT_OF_TIME
from cos_ray.domain.ids import CommandId, EntityId, Shard
from cos_ray.domain.lateness import DRIFT, Lateness
from cos_ray.domain.messages import Command, Packed, Refused
from cos_ray.domain.shard_assignment import Assignment, HostId
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.write_handlers import CountingWriteHandler
from cos_ray.transport.batching import Batch
from cos_ray.transport.encoding import batch_from_bytes, batch_to_bytes
from cos_ray.writeside.entity import Entity

A = EntityId("a")


def test_a_message_is_as_late_as_it_took_longer_than_the_quickest() -> None:
    lateness = Lateness()
    # The clocks are an hour apart.
    assert lateness.of(0.0, 3600.010) == 0
    assert lateness.of(1.0, 3601.010) == pytest.approx(0, abs=0.001)
    assert lateness.of(2.0, 3608.010) == pytest.approx(6, abs=0.001)
    assert lateness.of(2.5, 3608.010) == pytest.approx(5.5, abs=0.001)
    assert lateness.of(9.0, 3609.005) == 0
    assert lateness.of(10.0, 3610.010) == pytest.approx(0.005, abs=0.001)


@given(st.floats(-DRIFT / 2, DRIFT / 2), st.lists(st.floats(0.01, 50_000), min_size=1, max_size=20))
def test_clocks_that_drift_apart_make_no_message_late(drift: float, pauses: list[float]) -> None:
    lateness, now = Lateness(), 0.0
    for pause in pauses:
        now += pause
        assert lateness.of(now * (1 + drift), now) < 0.001


def test_the_commands_of_a_late_letter_have_so_much_less_time() -> None:
    home = Assignment(1, 4, (HostId("0"),))
    command = Command(A, Packed(b"1"), CommandId("c"), 5.0)
    _, batch = batch_from_bytes(batch_to_bytes(home, Batch([(1, command)])), late=6.0)
    assert [each.budget for _, each in batch.requests] == [-1.0]


@pytest.mark.parametrize("is_awake", [True, False])
async def test_a_command_whose_time_was_over_when_it_came_runs_no_handler(is_awake: bool) -> None:
    handler = CountingWriteHandler()
    entity = Entity(A, Shard(0), handler, MemoryJournal(), SystemClock())
    if is_awake:
        await entity.process(Command(A, Packed(b"1"), CommandId("before"), 5.0))
    handler.commands.clear()
    late = Command(A, Packed(b"1"), CommandId("late"), -0.5)
    assert await entity.process(late) == Refused(OUT_OF_TIME)
    assert handler.commands == []


def test_the_clock_goes_on_while_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    # A suspended machine's time is in none of the other clocks.
    times = {time.CLOCK_BOOTTIME: 1000.0, time.CLOCK_MONOTONIC: 10.0}
    monkeypatch.setattr(time, "clock_gettime", times.__getitem__)
    assert SystemClock().monotonic() == 1000.0
