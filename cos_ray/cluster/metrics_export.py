"""
What this process counts, carried to Ray's metrics, which Prometheus scrapes from each node's Ray agent.

Ray's counters cost some microseconds a call, too much for every step of every command, so they are
told now and then what has come up. Its histograms are not used: the agent takes them apart into
single observations again, one Python call for each, and gives up their sums. A histogram here is
Prometheus's own three counters, which `histogram_quantile` reads like any other.

Ray keeps what a process has counted for as long as the node runs, under labels that name the
process. Entities' own processes, which come and go by the thousand, therefore hand their counts to
their node's journal actor (`Relay`) and never meet Ray's metrics themselves.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from itertools import accumulate

from ray.util.metrics import Counter, Gauge

from cos_ray.domain.errors import CosError
from cos_ray.ray_internals.metrics import begin_at_zero
from cos_ray.telemetry.meters import Meters, Metric, Readings, Series, upper_bounds

logger = logging.getLogger(__name__)

EXPORT_EVERY = 2.0
"""Seconds between two exports; Ray's own, from there to the agent, is every 10 s by default."""

RELAY_EVERY = 5.0
"""Seconds in which an entity's process hands on what it has counted, if it has."""

FORGET_AFTER = 3 * RELAY_EVERY
"""Seconds without a word after which an entity's process counts as gone, and its gauges with it."""


class RayMetrics:
    """Ray's metrics, made as they are needed."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: set[Series] = set()
        """Those that have all their buckets."""

    def export(self, readings: Readings) -> None:
        """Carry these on."""
        for (metric, labels), value in readings.risen.items():
            self._rise(metric.name, metric, dict(zip(metric.labels, labels, strict=True)), value)
        for series, observed in readings.observed.items():
            metric, labels = series
            tags = dict(zip(metric.labels, labels, strict=True))
            # Each bucket counts all smaller ones as well.
            heights = list(accumulate(observed.counts))
            is_new = series not in self._histograms
            self._histograms.add(series)
            for bound, count in zip(upper_bounds(metric), heights, strict=True):
                if count or is_new:
                    self._rise(f"{metric.name}_bucket", metric, {**tags, "le": bound}, count)
            self._rise(f"{metric.name}_sum", metric, tags, observed.sum)
            self._rise(f"{metric.name}_count", metric, tags, heights[-1])
        for (metric, labels), value in readings.gauges.items():
            gauge = self._gauges.get(metric.name)
            if gauge is None:
                gauge = self._gauges[metric.name] = Gauge(metric.name, metric.meaning, metric.labels)
            gauge.set(value, dict(zip(metric.labels, labels, strict=True)))

    def _rise(self, name: str, metric: Metric, tags: dict[str, str], value: float) -> None:
        counter = self._counters.get(name)
        if counter is None:
            keys = (*metric.labels, "le") if "le" in tags else metric.labels
            counter = self._counters[name] = Counter(name, metric.meaning, keys)
        if value > 0:
            counter.inc(value, tags)
        else:
            begin_at_zero(counter, tags)


class _Export:
    """This process's counters, and the task that exports them."""

    def __init__(self) -> None:
        self.meters = Meters()
        self.strangers = Strangers()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        ray_metrics = RayMetrics()
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EXPORT_EVERY)
            try:
                readings = self.meters.take()
                gauges = _added(readings.gauges, self.strangers.gauges(loop.time()))
                ray_metrics.export(Readings(readings.risen, readings.observed, gauges))
            except Exception:
                # A gauge that cannot be read must not end the others.
                logger.exception("metrics could not be exported")


_export: _Export | None = None


def exported_meters() -> Meters:
    """This process's counters; from the first call on they are exported, in the loop it is made in."""
    return _the_export().meters


def take_report(origin: str, readings: Readings) -> None:
    """Count what another process has counted, and export it with what is this one's."""
    export = _the_export()
    export.meters.add(readings)
    export.strangers.hear(origin, readings.gauges, asyncio.get_running_loop().time())


def _the_export() -> _Export:
    global _export  # noqa: PLW0603 - Ray's metrics are one for a process, and so is what exports to them
    if _export is None:
        _export = _Export()
    return _export


class Strangers:
    """The gauges of processes that do not export themselves, each as it was last heard of."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, Mapping[Series, float]]] = {}
        self._known: set[Series] = set()

    def hear(self, origin: str, gauges: Mapping[Series, float], now: float) -> None:
        """A process says how it is."""
        self._known.update(gauges)
        self._heard.pop(origin, None)
        if any(gauges.values()):
            self._heard[origin] = (now, gauges)

    def gauges(self, now: float) -> Mapping[Series, float]:
        """The sums over all that were heard of lately."""
        for origin, (heard_at, _) in list(self._heard.items()):
            if now - heard_at > FORGET_AFTER:
                del self._heard[origin]
        # Of what nobody says anything any more: that it is 0.
        total: Mapping[Series, float] = dict.fromkeys(self._known, 0.0)
        for _, gauges in self._heard.values():
            total = _added(total, gauges)
        return total


def _added(some: Mapping[Series, float], more: Mapping[Series, float]) -> Mapping[Series, float]:
    return {series: some.get(series, 0.0) + more.get(series, 0.0) for series in {**some, **more}}


class Relay:
    """Hands on what this process counts, some time after it was reminded to."""

    def __init__(self, meters: Meters, report: Callable[[str, Readings], Awaitable[object]]) -> None:
        self._meters = meters
        self._report = report
        self._origin = uuid.uuid4().hex
        self._task: asyncio.Task[None] | None = None
        self._was_calm = True
        """Whether all gauges were 0 when they were handed on last."""

    def remind(self) -> None:
        """There is, or will soon be, something to hand on."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._hand_on())

    async def _hand_on(self) -> None:
        while True:
            # An entity at rest is not to be woken for nothing.
            await asyncio.sleep(RELAY_EVERY)
            readings = self._meters.take()
            is_calm = not any(readings.gauges.values())
            if is_calm and self._was_calm and not readings.risen and not readings.observed:
                return
            self._was_calm = is_calm
            try:
                await self._report(self._origin, readings)
            except CosError as error:
                logger.debug("metrics were not handed on, and are lost", extra={"reason": str(error)})
