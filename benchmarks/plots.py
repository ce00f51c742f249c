"""What was read, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.measuring import GENERATOR
from benchmarks.points import STANDARD
from benchmarks.report import Pick, Readings, cpu_by_kind, p50, rate

# The same file for the same figures, and text that can be read without its font.
mpl.rcParams["svg.hashsalt"] = "cos_ray"
mpl.rcParams["svg.fonttype"] = "none"


def draw(readings: Readings, folder: Path) -> list[Path]:
    """Draw what there are readings for; the files."""
    by_flight = {x: f"concurrency/{x}" for x in readings.xs("concurrency")}
    by_flight = dict(sorted({**by_flight, 64: STANDARD}.items()))
    by_size = {x: f"payload/{x}" for x in readings.xs("payload")}
    files = []
    if len(by_flight) > 1:
        files.append(_lines(readings, by_flight, rate, folder / "throughput-by-concurrency.svg", _FLIGHT))
        files.append(_lines(readings, by_flight, p50, folder / "latency-by-concurrency.svg", _LATENCY))
    if by_size:
        files.append(_lines(readings, by_size, rate, folder / "throughput-by-payload.svg", _SIZE))
    if readings.xs("cold"):
        files.append(_entities(readings, folder / "throughput-by-entities.svg"))
    files.append(_cpu(readings, folder / "cpu-per-command.svg"))
    return files


_FLIGHT = ("commands in flight", "commands per second")
_LATENCY = ("commands in flight", "latency in ms (median)")
_SIZE = ("bytes of an entity's state", "commands per second")


def _lines(
    readings: Readings, points: dict[int, str], pick: Pick, file: Path, labels: tuple[str, str]
) -> Path:
    _, axes = plt.subplots(figsize=(8, 5))
    for name in readings.contestants():
        xs = [x for x, key in points.items() if readings.of(name, key)]
        values = [[pick(reading) for reading in readings.of(name, points[x])] for x in xs]
        if not xs:
            continue
        middles = [readings.median(name, points[x], pick) for x in xs]
        (line,) = axes.plot(xs, middles, marker="o", label=name)
        axes.fill_between(
            xs, list(map(min, values)), list(map(max, values)), alpha=0.15, color=line.get_color()
        )
    axes.set_xscale("log")
    axes.set_xticks(list(points), [f"{x:,}" for x in points], minor=False)
    axes.minorticks_off()
    axes.set_yscale("log")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    return _saved(axes, file)


def _entities(readings: Readings, file: Path) -> Path:
    names = [name for name in readings.contestants() if readings.of(name, "cold/0")]
    _, axes = plt.subplots(figsize=(8, 5))
    for offset, (label, key) in enumerate(
        (("1,000, again and again", STANDARD), ("each touched once", "cold/0"))
    ):
        heights = [readings.median(name, key, rate) or 0.0 for name in names]
        places = [place + 0.4 * offset for place in range(len(names))]
        axes.bar(places, heights, width=0.38, label=label)
    axes.set_xticks([place + 0.2 for place in range(len(names))], _wrapped(names))
    axes.set(ylabel="commands per second")
    return _saved(axes, file)


def _cpu(readings: Readings, file: Path) -> Path:
    names = readings.contestants()
    by_name = {name: cpu_by_kind(readings, name) for name in names}
    kinds = dict.fromkeys(kind for cpu in by_name.values() for kind in cpu)
    _, axes = plt.subplots(figsize=(9, 5))
    bottoms = [0.0] * len(names)
    for kind in kinds:
        heights = [by_name[name].get(kind, 0.0) for name in names]
        hatch = "//" if kind == GENERATOR else None
        axes.bar(range(len(names)), heights, bottom=bottoms, label=kind, hatch=hatch)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set_xticks(range(len(names)), _wrapped(names))
    axes.set(ylabel="CPU for a command, in microseconds")
    return _saved(axes, file)


def _wrapped(names: Sequence[str]) -> list[str]:
    return [name.replace(", ", ",\n").replace(": ", ":\n").replace(" doing", "\ndoing") for name in names]


def _saved(axes: Axes, file: Path) -> Path:
    axes.legend(fontsize="small")
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.tick_params(labelsize="small")
    axes.figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(axes.figure)
    return file
