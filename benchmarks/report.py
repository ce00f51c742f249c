"""What was read, as a page of Markdown: targets, throughput, latency, CPU."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import psutil

from benchmarks.measuring import GENERATOR, Reading, total
from benchmarks.points import STANDARD

Pick = Callable[[Reading], float]


class Readings:
    """All readings of a run, looked at from several sides."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    def contestants(self) -> list[str]:
        """In the order they were measured."""
        return list(dict.fromkeys(reading.contestant for reading in self._readings))

    def xs(self, series: str) -> list[int]:
        """Where a series was measured."""
        keys = {r.point for r in self._readings if r.point.startswith(f"{series}/")}
        return sorted(int(key.rsplit("/", 1)[1]) for key in keys)

    def of(self, contestant: str, point: str) -> list[Reading]:
        """The repetitions of a point."""
        return [r for r in self._readings if (r.contestant, r.point) == (contestant, point)]

    def median(self, contestant: str, point: str, pick: Pick) -> float | None:
        """Over the repetitions."""
        values = [pick(reading) for reading in self.of(contestant, point)]
        return statistics.median(values) if values else None

    def spread(self, contestant: str, point: str, pick: Pick, form: str = ",.0f") -> str:
        """The median with the least and the greatest, or a dash."""
        values = [pick(reading) for reading in self.of(contestant, point)]
        if not values:
            return "-"
        middle, least, most = (format(v, form) for v in (statistics.median(values), min(values), max(values)))
        return middle if len(values) == 1 else f"{middle} ({least}-{most})"

    def ratio(self, one: tuple[str, str], other: tuple[str, str], pick: Pick) -> list[float]:
        """One as a share of the other, repetition by repetition, as they took turns."""
        turns = {(reading.group, reading.repetition): reading for reading in self.of(*other)}
        pairs = [(mine, turns.get((mine.group, mine.repetition))) for mine in self.of(*one)]
        return [pick(mine) / pick(theirs) for mine, theirs in pairs if theirs is not None]

    def others(self) -> float:
        """Cores that something else used, the median."""
        return statistics.median([reading.others for reading in self._readings] or [0.0])

    def failures(self) -> dict[str, int]:
        """How many requests failed, by contestant."""
        failed: dict[str, int] = {}
        for reading in self._readings:
            if count := sum(reading.failures.values()):
                failed[reading.contestant] = failed.get(reading.contestant, 0) + count
        return failed


def rate(reading: Reading) -> float:
    """Answers per second."""
    return reading.rate


def p50(reading: Reading) -> float:
    """Milliseconds."""
    return reading.p50


def p99(reading: Reading) -> float:
    """Milliseconds."""
    return reading.p99


@dataclass(frozen=True, slots=True)
class Target:
    """A line of the table of targets: a ratio of two figures of one run."""

    what: str
    least: float
    aim: float
    one: tuple[str, str]
    """Contestant and point."""
    other: tuple[str, str]
    pick: Pick = rate
    more_is_better: bool = True


DEDICATED = "cos_ray dedicated, gRPC handler"
PROTOTYPE = 190 / 775
"""
Commands per second of a throw-away prototype with a process for each entity, as a share of what Restate did
on the same machine on the same day: it is not of this run, and machines differ.
"""
GRPC, PYTHON = "cos_ray sharded, gRPC handler", "cos_ray sharded, in-process handler"


def targets(restate: str) -> list[Target]:
    """Those that are ratios of one run of this benchmark."""
    alone = "concurrency/1"
    return [
        Target(
            "1,000 entities, 64 in flight, gRPC handler: commands per second vs Restate",
            1.3,
            2.0,
            (GRPC, STANDARD),
            (restate, STANDARD),
        ),
        Target("the same with the in-process handler", 2.5, 4.0, (PYTHON, STANDARD), (restate, STANDARD)),
        Target(
            "one command alone, gRPC handler: latency vs Restate",
            1.0,
            0.6,
            (GRPC, alone),
            (restate, alone),
            p50,
            more_is_better=False,
        ),
        *(
            Target(
                f"entities touched once, {kind} handler: commands per second vs 1,000 hot ones",
                0.7,
                0.9,
                (name, "cold/0"),
                (name, STANDARD),
            )
            for kind, name in (("gRPC", GRPC), ("in-process", PYTHON))
        ),
    ]


def summary(readings: Readings, restate: str, took: float, *, quick: bool) -> str:
    """For docs/performance.md: when and where, the targets, the standard point; `took` in seconds."""
    today = datetime.now(timezone.utc).date()
    others = readings.others()
    how = " by `--quick`, with fewer points and repetitions," if quick else ""
    return "\n\n".join(
        [
            f"Measured on {today}{how} in {took / 60:.0f} minutes on {machine()}; load generator, service, "
            "handler and database all on it. Medians of the repetitions, with the least and the greatest; "
            f"the contestants' repetitions took turns. Meanwhile {others:.1f} cores were busy with something "
            "else. `uv run python -m benchmarks` measures anew.",
            _targets(readings, restate),
            "1,000 entities (dedicated: 40), 64 commands in flight:",
            _standard(readings),
        ]
    )


def markdown(
    readings: Readings, restate: str, took: float, notes: Iterable[str], *, quick: bool = False
) -> str:
    """All of it, as a page."""
    parts = [
        "# Benchmarks",
        summary(readings, restate, took, quick=quick),
        "## CPU for a command there, in microseconds\n\n" + _cpu(readings),
    ]
    for title, series, heads, pick, form in (
        ("Commands per second, by commands in flight", "concurrency", "{} in flight", rate, ",.0f"),
        ("Latency in ms (median), by commands in flight", "concurrency", "{} in flight", p50, ",.1f"),
        ("Commands per second, by size of an entity's state", "payload", "{:,} B", rate, ",.0f"),
    ):
        if readings.xs(series):
            parts.append(f"## {title}\n\n" + _by_x(readings, series, heads, pick, form))
    if readings.xs("open loop"):
        parts.append(
            "## Latency in ms (median / 99th percentile) at a fixed rate\n\nCommands are sent when they are "
            "due, at a share of what the contestant does at the most, and timed from then.\n\n"
            + _open_loop(readings)
        )
    failures = [f"{name}: {count} requests failed." for name, count in readings.failures().items()]
    if lines := [*notes, *failures]:
        parts.append("\n".join(f"* {line}" for line in lines))
    return "\n\n".join(parts) + "\n"


def machine() -> str:
    """What it was measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1] for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else model
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def _targets(readings: Readings, restate: str) -> str:
    rows = []
    for target in targets(restate):
        shares = readings.ratio(target.one, target.other, target.pick)
        if not shares:
            rows.append([target.what, f"{target.least}x", f"{target.aim}x", "not measured"])
            continue
        middle = statistics.median(shares)
        is_met = middle >= target.least if target.more_is_better else middle <= target.least
        measured = f"**{middle:.2f}x** ({min(shares):.2f}-{max(shares):.2f})"
        rows.append(
            [target.what, f"{target.least}x", f"{target.aim}x", measured + ("" if is_met else ", missed")]
        )
    dedicated, peer = (readings.median(name, STANDARD, rate) for name in (DEDICATED, restate))
    measured = "not measured"
    if dedicated is not None and peer is not None:
        share = dedicated / (PROTOTYPE * peer)
        measured = f"**{share:.2f}x**" + ("" if share >= 2 else ", missed")
    what = f"dedicated, 40 hot entities: commands per second vs a prototype ({PROTOTYPE:.3f} of Restate's)"
    rows.append([what, "2.0x", "4.0x", measured])
    return table(["what", "at least", "aim", "measured"], rows)


def _standard(readings: Readings) -> str:
    rows = [
        [
            name,
            readings.spread(name, STANDARD, rate),
            readings.spread(name, STANDARD, p50, ",.0f"),
            readings.spread(name, STANDARD, p99, ",.0f"),
            readings.spread(name, "concurrency/1", p50, ",.1f"),
            readings.spread(name, "cold/0", rate),
        ]
        for name in readings.contestants()
    ]
    heads = ["", "commands/s", "p50, ms", "p99, ms", "one alone: p50, ms", "touched once: commands/s"]
    return table(heads, rows)


def cpu_by_kind(readings: Readings, name: str) -> dict[str, float]:
    """Microseconds for a command at the standard point, the medians of each kind of process."""
    found = readings.of(name, STANDARD)
    kinds = dict.fromkeys(kind for reading in found for kind in reading.cpu)
    return {kind: statistics.median(r.cpu.get(kind, 0.0) for r in found) for kind in kinds}


def _cpu(readings: Readings) -> str:
    by_name = {name: cpu_by_kind(readings, name) for name in readings.contestants()}
    kinds = dict.fromkeys(kind for cpu in by_name.values() for kind in cpu if kind != GENERATOR)
    shown = [kind for kind in kinds if any(cpu.get(kind, 0) >= 0.5 for cpu in by_name.values())]
    rows = [
        [
            name,
            f"{total(cpu):,.0f}",
            *(f"{cpu[kind]:,.0f}" if kind in cpu else "" for kind in shown),
            f"{cpu.get(GENERATOR, 0):,.0f}",
        ]
        for name, cpu in by_name.items()
    ]
    return table(["", "all of it", *shown, GENERATOR], rows)


def _by_x(readings: Readings, series: str, heads: str, pick: Pick, form: str) -> str:
    keys = {x: f"{series}/{x}" for x in readings.xs(series)}
    if series == "concurrency":
        # Measured once, more thoroughly.
        keys[64] = STANDARD
    keys = dict(sorted(keys.items()))
    rows = [
        [name, *(readings.spread(name, key, pick, form) for key in keys.values())]
        for name in readings.contestants()
        if any(readings.of(name, key) for key in keys.values())
    ]
    return table(["", *(heads.format(x) for x in keys)], rows)


def _open_loop(readings: Readings) -> str:
    xs = readings.xs("open loop")
    rows = []
    for name in readings.contestants():
        row = [name]
        for x in xs:
            key = f"open loop/{x}"
            middle, most = readings.median(name, key, p50), readings.median(name, key, p99)
            row.append("-" if middle is None else f"{middle:,.1f} / {most:,.1f}")
        rows.append(row)
    return table(["", *(f"at {x} %" for x in xs)], rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As Markdown; the first column is words, the others are figures."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
