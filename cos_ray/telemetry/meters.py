"""
What one process counts: plain numbers, cheap enough for every step of every command.

Nothing here exports anything. Now and then someone takes what has changed since the last time and
carries it on: to Ray's metrics, or from an entity's process to its node's journal actor.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias


class Kind(Enum):
    """What can be made of a metric's values."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is declared."""

    name: str
    """Without the `ray_` that Ray puts before it."""
    kind: Kind
    meaning: str
    """One sentence, which Prometheus shows, too."""
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets, but for the last, which has none."""


Labels: TypeAlias = tuple[str, ...]
"""The labels' values, in the order of their names."""

Series: TypeAlias = tuple[Metric, Labels]


class Counter:
    """Only rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        """One more."""
        self.value += 1


class Gauge:
    """Holds what was said last."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Let it be this."""
        self.value = value


class Histogram:
    """How many observations there were of which size."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """For each bucket, what is in it and in no smaller one; the last is for what exceeds all bounds."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


@dataclass(frozen=True, slots=True)
class Observed:
    """What came to a histogram."""

    counts: tuple[int, ...]
    sum: float


@dataclass(frozen=True, slots=True)
class Readings:
    """What there is to carry on; may travel between processes."""

    risen: Mapping[Series, float] = field(default_factory=dict)
    """Counters, by how much since the last time; 0: it is new."""
    observed: Mapping[Series, Observed] = field(default_factory=dict)
    """Histograms, by how much since the last time; all 0: it is new."""
    gauges: Mapping[Series, float] = field(default_factory=dict)
    """All gauges, as they are."""


class Meters:
    """All that a process counts; belongs to one thread."""

    def __init__(self) -> None:
        self._counters: dict[Series, Counter] = {}
        self._gauges: dict[Series, Gauge] = {}
        self._histograms: dict[Series, Histogram] = {}
        self._watched_counters: dict[Series, Callable[[], float]] = {}
        self._watched_gauges: dict[Series, Callable[[], float]] = {}
        self._told: dict[Series, float] = {}
        self._told_observed: dict[Series, Observed] = {}

    def counter(self, metric: Metric, *labels: str) -> Counter:
        """The counter of these labels; exported from now on, as 0 at first."""
        return self._counters.setdefault(_series(metric, labels, Kind.COUNTER), Counter())

    def gauge(self, metric: Metric, *labels: str) -> Gauge:
        """The gauge of these labels."""
        return self._gauges.setdefault(_series(metric, labels, Kind.GAUGE), Gauge())

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        """The histogram of these labels."""
        series = _series(metric, labels, Kind.HISTOGRAM)
        found = self._histograms.get(series)
        if found is None:
            found = self._histograms[series] = Histogram(metric.bounds)
        return found

    def watch(self, look: Callable[[], float], metric: Metric, *labels: str) -> None:
        """Ask for the value when it is wanted: a gauge's, or all that a counter has come to so far."""
        watched = self._watched_gauges if metric.kind is Kind.GAUGE else self._watched_counters
        watched[_series(metric, labels, metric.kind)] = look

    def take(self) -> Readings:
        """What has changed since the last call."""
        # Before anything counts as told: who is looked at may fail.
        gauges = {series: gauge.value for series, gauge in self._gauges.items()}
        gauges |= {series: look() for series, look in self._watched_gauges.items()}
        counts = {series: counter.value for series, counter in self._counters.items()}
        counts |= {series: look() for series, look in self._watched_counters.items()}  # type: ignore[misc]
        risen = {}
        for series, value in counts.items():
            told = self._told.get(series)
            if told is None or value > told:
                risen[series] = value - (told or 0)
                self._told[series] = value
        return Readings(risen, self._observed(), gauges)

    def add(self, readings: Readings) -> None:
        """Count what another process has counted. Its gauges are not its own to sum up, and left out."""
        for (metric, labels), more in readings.risen.items():
            self.counter(metric, *labels).value += int(more)
        for (metric, labels), observed in readings.observed.items():
            histogram = self.histogram(metric, *labels)
            histogram.sum += observed.sum
            for place, count in enumerate(observed.counts):
                histogram.counts[place] += count

    def _observed(self) -> Mapping[Series, Observed]:
        observed = {}
        for series, histogram in self._histograms.items():
            now = Observed(tuple(histogram.counts), histogram.sum)
            told = self._told_observed.get(series)
            if told is None:
                observed[series] = now
            elif told.counts != now.counts:
                more = tuple(new - old for new, old in zip(now.counts, told.counts, strict=True))
                observed[series] = Observed(more, max(0.0, now.sum - told.sum))
            self._told_observed[series] = now
        return observed


def upper_bounds(metric: Metric) -> tuple[str, ...]:
    """The buckets' bounds as Prometheus writes them."""
    return tuple("+Inf" if bound == math.inf else f"{bound:g}" for bound in (*metric.bounds, math.inf))


def _series(metric: Metric, labels: Labels, kind: Kind) -> Series:
    if metric.kind is not kind or len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} is a {metric.kind.value} with the labels {metric.labels}")
    return metric, labels
