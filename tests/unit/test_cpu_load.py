"""How busy the CPUs are."""

from __future__ import annotations

from pathlib import Path

import pytest

from cos_ray.system.cpu_load import SMOOTHED_OVER, CpuLoad, bounded_by


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


def test_the_nearest_quota_counts_whether_it_is_ones_own_or_a_parents(tmp_path: Path) -> None:
    inner = tmp_path / "pod" / "container"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (tmp_path / "pod" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "pod" / "cpu.stat").write_text("usage_usec 3000000\nuser_usec 1\n")
    used = bounded_by(inner, tmp_path)
    assert used is not None
    assert used() == (3.0, 1.5)
    assert bounded_by(tmp_path, tmp_path) is None
