"""Takes the readings: the contestants' repetitions in turn, so that an hour's mood meets all of them."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import psutil

from benchmarks.contestants.base import Contestant
from benchmarks.contestants.service import Service
from benchmarks.load.job import Done, Job
from benchmarks.load.process import LoadGenerator
from benchmarks.points import STANDARD, Point

Say = Callable[[str], None]
GENERATOR = "load generator"
POPULATION = 100_000
FIRST_OF_POPULATION = 20_000
"""So many are opened before the first of them has rested long enough to leave memory."""
POPULATION_WITHIN = 120.0
"""Seconds after which there are as many entities as there are; of each of the two parts."""
_populations = itertools.count()


@dataclass(frozen=True, slots=True)
class Reading:
    """One repetition."""

    contestant: str
    point: str
    repetition: int
    rate: float
    """Answers per second."""
    p50: float
    """Milliseconds."""
    p99: float
    commands: int
    failures: dict[str, int]
    cpu: dict[str, float]
    """Microseconds for each command, by kind of process."""
    group: int
    """Which of the groups that ran at the same time."""
    others: float
    """Cores that were busy meanwhile with something else: idle contestants, and what else runs here."""


@dataclass(slots=True)
class Measuring:
    """A run in progress."""

    load: LoadGenerator
    say: Say
    readings: list[Reading] = field(default_factory=list)
    groups: int = 0
    """How many groups were begun."""
    notes: list[str] = field(default_factory=list)
    """What was seen besides."""

    def rates(self, contestant: str, point: str) -> list[float]:
        """What was read so far."""
        return [r.rate for r in self.readings if (r.contestant, r.point) == (contestant, point)]

    def warm_up(self, contestant: Contestant, seconds: float) -> None:
        """Open all accounts of the usual population and use them for a while."""
        self._populate(contestant, "hot", contestant.largest_population, 10)
        self.load.run(self._job(contestant, Point("warm-up", 0), seconds))

    def measure(self, contestants: Sequence[Contestant], point: Point) -> None:
        """All repetitions of a point."""
        taking_part = [c for c in contestants if _takes_part(c, point)]
        if point.series == "payload":
            for contestant in taking_part:
                self._populate(contestant, f"payload{point.x}", point.accounts, point.owner_bytes)
        for repetition in range(point.repetitions):
            # Whoever is first finds the machine as the last one left it: not always the same.
            turn = repetition % max(1, len(taking_part))
            for contestant in [*taking_part[turn:], *taking_part[:turn]]:
                self._read(contestant, point, repetition)

    def measure_population(self, contestants: Sequence[Contestant]) -> None:
        """A hundred thousand entities of 1 KB, each touched once: how fast, and how much memory they take."""
        services = [c for c in contestants if isinstance(c, Service) and c.keeps_many]
        for service in services:
            first, grown = self._open_many(service, FIRST_OF_POPULATION)
            rest, _ = self._open_many(service, POPULATION - FIRST_OF_POPULATION)
            opened = len(first["latencies"]) + len(rest["latencies"])
            rate = opened / (first["seconds"] + rest["seconds"])
            share = rate / statistics.median(self.rates(service.name, STANDARD))
            each = grown / len(first["latencies"]) / 1024
            self.notes.append(
                f"{service.name}: {opened:,} entities with 1 KB of state were opened at {rate:,.0f} per "
                f"second, {share:.2f}x of what it does with 1,000 hot ones (target 0.7x, aim 0.9x). With the "
                f"first {FIRST_OF_POPULATION:,} the shard hosts grew by {each:.1f} KB for each (target 5 KB, "
                "aim 2 KB)."
            )
            self.say(f"  {self.notes[-1]}")

    def _open_many(self, service: Service, count: int) -> tuple[Done, int]:
        """What came of it, and by how many bytes the entities' homes grew."""
        job = self._job(service, Point("population", 0, is_cold=True), POPULATION_WITHIN)
        before = service.memory()
        done = self.load.run(replace(job, accounts=count, owner_bytes=1000))
        return done, service.memory() - before

    def _read(self, contestant: Contestant, point: Point, repetition: int) -> None:
        # What was asleep is awake when it counts.
        self.load.run(self._job(contestant, point, 0.5))
        before, busy_before, begun = contestant.cpu(), busy(), perf_counter()
        done = self.load.run(self._job(contestant, point, point.seconds))
        used = {kind: seconds - before[kind] for kind, seconds in contestant.cpu().items()}
        used[GENERATOR] = done["cpu"]
        others = (busy() - busy_before - sum(used.values())) / (perf_counter() - begun)
        latencies = sorted(done["latencies"])
        commands = len(latencies)
        if not commands:
            self.say(f"  {contestant.name}: nothing succeeded: {done['failures']}")
            return
        self.readings.append(
            Reading(
                contestant.name,
                point.key,
                repetition,
                commands / done["seconds"],
                1000 * statistics.median(latencies),
                1000 * latencies[min(commands - 1, int(0.99 * commands))],
                commands,
                done["failures"],
                {kind: 1e6 * seconds / commands for kind, seconds in used.items()},
                self.groups,
                max(0.0, others),
            )
        )
        latest = self.readings[-1]
        failures = f", failures {latest.failures}" if latest.failures else ""
        self.say(
            f"  {point.key} {contestant.name}: {latest.rate:.0f}/s,"
            f" p50 {latest.p50:.1f} ms, p99 {latest.p99:.1f} ms{failures}"
        )

    def _populate(self, contestant: Contestant, prefix: str, accounts: int, owner_bytes: int) -> None:
        self.say(f"opening {accounts} accounts of {owner_bytes} B at {contestant.name}")
        job = Job(
            contestant.style,
            contestant.address,
            prefix,
            accounts,
            in_flight=min(16, accounts),
            seconds=600,
            opens=True,
            owner_bytes=owner_bytes,
        )
        done = self.load.run(job)
        if done["failures"]:
            self.say(f"  opening failed: {done['failures']}")

    def _job(self, contestant: Contestant, point: Point, seconds: float) -> Job:
        style, address = contestant.style, contestant.address
        if point.is_cold:
            # Others than ever before, and more than can be opened in the time.
            prefix = f"cold{next(_populations)}"
            return Job(style, address, prefix, 1_000_000, point.in_flight, seconds, opens=True)
        rate = None
        if point.share_of_standard is not None:
            rate = point.share_of_standard * statistics.median(self.rates(contestant.name, STANDARD))
        is_sized = point.series == "payload"
        prefix = f"payload{point.x}" if is_sized else "hot"
        accounts = point.accounts if is_sized else min(point.accounts, contestant.largest_population)
        return Job(style, address, prefix, accounts, point.in_flight, seconds, rate)


def _takes_part(contestant: Contestant, point: Point) -> bool:
    if point.is_cold or point.series == "payload":
        return contestant.takes_new_accounts
    return True


def busy() -> float:
    """Seconds of CPU this machine has spent on anything."""
    times = psutil.cpu_times()
    # What guests use is counted among the user's already.
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def total(cpu: dict[str, float]) -> float:
    """Of the contestant, without what drives it."""
    return sum(cpu.values()) - cpu.get(GENERATOR, 0.0)
