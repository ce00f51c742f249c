"""How busy the CPUs are that this process may use: those of the machine, or its cgroup's share of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

SMOOTHED_OVER = 3.0
"""Seconds in which a new load is two thirds of what is told."""

CGROUPS = Path("/sys/fs/cgroup")


class CpuLoad:
    """Told in shares of 1, each time from the last question on, and smoothed."""

    def __init__(
        self, used: Callable[[], tuple[float, float]] | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`used`: CPU seconds used so far, and how many there are in a second; None: the system's."""
        self._used = used or _cgroup() or _machine
        self._now = now
        self._at = now()
        self._before, _ = self._used()
        self._share = 0.0

    def share(self) -> float:
        """The share of the CPUs' time that is used."""
        now = self._now()
        used, cpus = self._used()
        passed = now - self._at
        if passed > 0 and cpus > 0:
            newest = min(1.0, max(0.0, (used - self._before) / (passed * cpus)))
            weight = min(1.0, passed / SMOOTHED_OVER)
            self._share += weight * (newest - self._share)
            self._at, self._before = now, used
        return self._share


def _machine() -> tuple[float, float]:
    times = psutil.cpu_times()
    # What another machine on the same hardware has had (steal) is not to be had here either.
    idle = times.idle + getattr(times, "iowait", 0.0)
    return sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0) - idle, _cpus()


def _cpus() -> float:
    return float(psutil.cpu_count() or 1)


def _cgroup() -> Callable[[], tuple[float, float]] | None:
    """What the nearest cgroup (version 2) that bounds this process has used, and may; None if none does."""
    try:
        path = Path("/proc/self/cgroup").read_text().partition("0::")[2].split("\n")[0].lstrip("/")
    except OSError:
        return None
    return bounded_by(CGROUPS / path, CGROUPS)


def bounded_by(folder: Path, top: Path) -> Callable[[], tuple[float, float]] | None:
    """The same for the cgroup of this folder, or the nearest of those above it that has a quota."""
    for each in (folder, *folder.parents):
        try:
            quota, period = (each / "cpu.max").read_text().split()
            cpus = float(quota) / float(period)
        except (OSError, ValueError):
            # No such file at the top; "max" where there is no quota.
            if each == top:
                return None
            continue
        return lambda: (_used_by(each), cpus)
    return None


def _used_by(folder: Path) -> float:
    lines = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    return int(lines["usage_usec"]) / 1e6
