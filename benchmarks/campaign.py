"""
The service against itself and its peers, in one go.

    uv run python -m benchmarks
    uv run python -m benchmarks --quick --only sharded-grpc,restate

Everything runs on this machine. Contestants that are compared run at the same time, and are
driven one after the other; what is not driven is idle. But idle is not nothing, a cluster takes an
eighth of a core: so there are several groups, one after the other, with the peer in each that the
others are compared with. Writes a table, all readings and plots into benchmarks/results.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.contestants.base import Contestant, NotAvailable
from benchmarks.contestants.naive import Naive
from benchmarks.contestants.restate import Restate
from benchmarks.contestants.service import EmptyIngress, Service
from benchmarks.load.process import LoadGenerator
from benchmarks.measuring import Measuring
from benchmarks.plots import draw
from benchmarks.points import STANDARD, points
from benchmarks.readme import put_in_place
from benchmarks.report import Readings, machine, markdown, summary

RESULTS = Path(__file__).parent / "results"
SERVICES = {
    "sharded-grpc": ("sharded", "gRPC"),
    "sharded-python": ("sharded", "in-process"),
    "auto-grpc": ("auto", "gRPC"),
    "auto-python": ("auto", "in-process"),
    "dedicated-grpc": ("dedicated", "gRPC"),
    "dedicated-python": ("dedicated", "in-process"),
}
NAMES = [*SERVICES, "restate", "naive", "noop"]
GROUPS = (
    ("sharded-grpc", "restate", "naive", "noop"),
    ("sharded-python", "restate", "noop"),
    ("auto-grpc", "auto-python", "noop"),
    # Those with a process for each entity have a smaller population, and would need the others' memory.
    ("dedicated-grpc", "dedicated-python", "noop"),
)
console = Console(highlight=False, soft_wrap=True)

Quick = Annotated[bool, typer.Option("--quick", help="Fewer points and repetitions: about four minutes.")]
Only = Annotated[str, typer.Option(help=f"Some of: {', '.join(NAMES)}.")]
Readme = Annotated[bool, typer.Option("--readme", help="Put the summary into docs/performance.md, too.")]
Into = Annotated[Path, typer.Option(help="Where the results go.")]


def main(quick: Quick = False, only: Only = "", readme: Readme = False, into: Into = RESULTS) -> None:
    """Measure the service and its peers."""
    wanted = only.split(",") if only else NAMES[:6] if quick else NAMES
    if unknown := set(wanted) - set(NAMES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not among {', '.join(NAMES)}")
    begun = perf_counter()
    notes: list[str] = []
    load = LoadGenerator()
    measuring = Measuring(load, console.print)
    try:
        for names in groups(wanted):
            is_measured = bool(measuring.rates(EmptyIngress.name, STANDARD))
            with running([name for name in names if name != "noop" or not is_measured], notes) as group:
                measure(measuring, group, quick=quick)
    finally:
        load.stop()
    took = perf_counter() - begun
    write(measuring, into, took, notes, quick=quick)
    if readme:
        put_in_place(summary(Readings(measuring.readings), Restate.name, took, quick=quick))


def groups(wanted: Sequence[str]) -> list[list[str]]:
    """Who is measured with whom; who is there to be compared with comes with each that is."""
    found = [[name for name in group if name in wanted] for group in GROUPS]
    return [group for group in found if set(group) - {"restate", "noop"}] or [list(wanted)]


def measure(measuring: Measuring, contestants: Sequence[Contestant], *, quick: bool) -> None:
    """All points of these contestants."""
    measuring.groups += 1
    for contestant in contestants:
        measuring.warm_up(contestant, 1 if quick else 3)
    for point in points(quick=quick):
        measuring.measure(contestants, point)
    if not quick:
        measuring.measure_population(contestants)


@contextmanager
def running(names: Sequence[str], notes: list[str]) -> Iterator[list[Contestant]]:
    """These contestants, started; who cannot be is told, and left out."""
    with tempfile.TemporaryDirectory(prefix="cos-ray-benchmark-", ignore_cleanup_errors=True) as folder:
        # The embedded databases run as users of their own.
        Path(folder).chmod(0o755)
        contestants: list[Contestant] = []
        try:
            for name in names:
                contestant = make(name, Path(folder) / name, contestants)
                if contestant is None:
                    continue
                console.print(f"starting {contestant.name}")
                contestants.append(contestant)
                try:
                    contestant.start()
                except NotAvailable as error:
                    contestants.remove(contestant)
                    contestant.stop()
                    notes.append(f"{contestant.name} was left out: {error}.")
                    console.print(f"  {notes[-1]}")
            yield contestants
        finally:
            for contestant in reversed(contestants):
                contestant.stop()


def make(name: str, folder: Path, others: Sequence[Contestant]) -> Contestant | None:
    """A contestant by its name; None if it lives in another that is not there."""
    if name in SERVICES:
        return Service(folder, *SERVICES[name])
    if name == "noop":
        services = [other for other in others if isinstance(other, Service)]
        return EmptyIngress(folder, services[0]) if services else None
    return {"restate": Restate, "naive": Naive}[name](folder)


def write(measuring: Measuring, into: Path, took: float, notes: Sequence[str], *, quick: bool) -> None:
    """Write down what was read, in three forms."""
    into.mkdir(parents=True, exist_ok=True)
    readings = Readings(measuring.readings)
    page = markdown(readings, Restate.name, took, [*notes, *measuring.notes], quick=quick)
    (into / "table.md").write_text(page, encoding="utf-8")
    everything = {
        "machine": machine(),
        "quick": quick,
        "seconds": took,
        "notes": [*notes, *measuring.notes],
        "readings": [asdict(reading) for reading in measuring.readings],
    }
    (into / "readings.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    files = draw(readings, into)
    console.print(page)
    console.print(f"written to {into}: table.md, readings.json, {', '.join(file.name for file in files)}")
