"""What the benchmarks make of their readings."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("hpack", reason="uv sync --group benchmarks")

from benchmarks.measuring import Reading
from benchmarks.points import STANDARD
from benchmarks.readme import BEGIN, END, put_in_place
from benchmarks.report import GRPC, PYTHON, Readings, markdown, rate, summary

PEER = "the peer"


def reading(name: str, repetition: int, rate: float, point: str = STANDARD, latency: float = 10.0) -> Reading:
    cpu = {"handler": 500.0, "load generator": 70.0}
    return Reading(name, point, repetition, rate, latency, 2 * latency, 100, {}, cpu, 1, 0.0)


def lines_with(text: str, page: str) -> list[str]:
    return [line for line in page.splitlines() if text in line]


def test_a_ratio_is_that_of_repetitions_that_took_turns() -> None:
    # The machine slowed down for both: one is twice the other all the same.
    readings = Readings(
        [
            reading(name, n, scale * rate)
            for n, rate in enumerate((100, 50, 10))
            for name, scale in ((GRPC, 2), (PEER, 1))
        ]
    )
    assert readings.ratio((GRPC, STANDARD), (PEER, STANDARD), rate) == [2.0, 2.0, 2.0]
    assert readings.spread(PEER, STANDARD, rate) == "50 (10-100)"


def test_a_target_that_is_missed_or_not_measured_says_so() -> None:
    page = markdown(
        Readings(
            [
                reading(PEER, 0, 100),
                reading(GRPC, 0, 120),
                reading(PEER, 0, 100, "concurrency/1", 4.0),
                reading(GRPC, 0, 100, "concurrency/1", 2.0),
            ]
        ),
        PEER,
        60,
        [],
    )
    (throughput,) = lines_with("gRPC handler: commands per second vs Restate", page)
    assert throughput.endswith("| 1.3x | 2.0x | **1.20x** (1.20-1.20), missed |")
    (latency,) = lines_with("latency vs Restate", page)
    assert latency.endswith("| **0.50x** (0.50-0.50) |")
    (in_process,) = lines_with("the same with the in-process handler", page)
    assert in_process.endswith("| not measured |")


@pytest.mark.parametrize("quick", [False, True])
def test_a_quick_run_says_that_it_was(quick: bool) -> None:
    readings = Readings([reading(GRPC, 0, 100)])
    page = markdown(readings, PEER, 60, [], quick=quick)
    assert ("`--quick`" in page) == quick
    assert summary(readings, PEER, 60, quick=quick) in page


def test_failures_and_notes_are_told_at_the_end() -> None:
    failed = Reading(PYTHON, STANDARD, 0, 1.0, 1.0, 1.0, 1, {"HTTP 500": 2, "gone": 1}, {}, 1, 0.0)
    page = markdown(Readings([failed]), PEER, 60, ["the peer was left out: no npm."])
    assert page.endswith(f"* the peer was left out: no npm.\n* {PYTHON}: 3 requests failed.\n")


def test_only_what_stands_between_the_marks_of_the_readme_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n\n{END}after\n")
    for text in ("new", "newer"):
        put_in_place(text, file)
        assert file.read_text() == f"before\n{BEGIN}\n{text}\n\n{END}after\n"
