"""How busy the CPUs are."""

from __future__ import annotations

import pytest

from cos_ray.system.cpu_load import SMOOTHED_OVER, CpuLoad


class Machine:
    """Two CPUs that work as the test says."""

    def __init__(self) -> None:
        self.seconds = self.used = 0.0

    def work(self, seconds: float, busy: float) -> None:
        self.seconds += seconds
        self.used += seconds * busy

    def load(self) -> CpuLoad:
        return CpuLoad(lambda: (self.used, 2.0), lambda: self.seconds)


def test_a_load_that_lasts_is_told_as_it_is() -> None:
    machine = Machine()
    load = machine.load()
    for _ in range(100):
        machine.work(0.5, busy=1.5)
        told = load.share()
    assert told == pytest.approx(0.75, abs=0.01)


def test_a_moment_of_work_is_no_load() -> None:
    machine = Machine()
    load = machine.load()
    machine.work(SMOOTHED_OVER / 6, busy=2.0)
    assert load.share() < 0.25


def test_what_is_asked_twice_in_a_moment_is_told_twice() -> None:
    machine = Machine()
    load = machine.load()
    machine.work(10, busy=1.0)
    assert load.share() == load.share() == pytest.approx(0.5)


def test_the_machine_tells_something_between_nothing_and_all() -> None:
    load = CpuLoad()
    assert 0.0 <= load.share() <= 1.0
