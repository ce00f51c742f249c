"""Counters of Ray's metrics that begin at 0."""

from __future__ import annotations

from ray.util.metrics import Counter


def begin_at_zero(counter: Counter, tags: dict[str, str]) -> None:
    """
    Export the counter's series of these tags as 0.

    `inc` takes nothing but more than 0, and a series that begins higher hides its first rise.
    """
    counter._record(0.0, tags)
