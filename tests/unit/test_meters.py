"""What a process counts, how it is taken, and how it gets to Ray's metrics."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from cos_ray.cluster import metrics_export
from cos_ray.cluster.metrics_export import FORGET_AFTER, RayMetrics, Relay, Strangers
from cos_ray.domain.circuit_breaker import Closed, HalfOpen, Open
from cos_ray.domain.errors import Code
from cos_ray.telemetry import catalogue
from cos_ray.telemetry.meters import Kind, Meters, Metric, Observed, Readings
from cos_ray.telemetry.recorders import CommandRecorder, EntityRecorder, breaker_gauge

HITS = Metric("hits", Kind.COUNTER, "Hits.", ("where",))
DEPTH = Metric("depth", Kind.GAUGE, "Depth.")
SIZES = Metric("sizes", Kind.HISTOGRAM, "Sizes.", (), (1.0, 2.0))


class TestMeters:
    def test_what_is_taken_is_what_rose_since_the_last_time_a_new_counter_from_0(self):
        meters = Meters()
        hit = meters.counter(HITS, "here")
        assert meters.take().risen == {(HITS, ("here",)): 0}
        assert meters.take().risen == {}
        hit.add()
        hit.add()
        assert meters.take().risen == {(HITS, ("here",)): 2}

    def test_the_same_labels_are_the_same_counter(self):
        meters = Meters()
        assert meters.counter(HITS, "here") is meters.counter(HITS, "here")
        assert meters.counter(HITS, "here") is not meters.counter(HITS, "there")

    def test_an_observation_falls_into_the_smallest_bucket_that_holds_it(self):
        meters = Meters()
        sizes = meters.histogram(SIZES)
        assert meters.take().observed == {(SIZES, ()): Observed((0, 0, 0), 0.0)}
        for size in (0.5, 1.0, 1.5, 9.0):
            sizes.observe(size)
        assert meters.take().observed == {(SIZES, ()): Observed((2, 1, 1), 12.0)}
        assert meters.take().observed == {}

    def test_gauges_are_always_told_also_those_that_are_asked(self):
        meters, depths = Meters(), iter((3, 4))
        meters.watch(lambda: next(depths), DEPTH)
        assert [meters.take().gauges[DEPTH, ()] for _ in range(2)] == [3, 4]

    def test_a_gauge_that_cannot_be_asked_loses_no_count(self):
        meters, depths = Meters(), iter(())
        meters.counter(HITS, "here").add()
        meters.watch(lambda: 1 / len(list(depths)), DEPTH)
        with pytest.raises(ZeroDivisionError):
            meters.take()
        meters.watch(lambda: 0, DEPTH)
        assert meters.take().risen == {(HITS, ("here",)): 1}

    def test_a_watched_total_counts_by_how_much_it_rose(self):
        meters, total = Meters(), [5]
        meters.watch(lambda: total[0], HITS, "here")
        assert meters.take().risen == {(HITS, ("here",)): 5}
        total[0] = 8
        assert meters.take().risen == {(HITS, ("here",)): 3}

    @pytest.mark.parametrize("labels", [(), ("one", "too many")])
    def test_labels_have_to_be_those_declared(self, labels):
        with pytest.raises(ValueError, match="hits is a counter with the labels"):
            Meters().counter(HITS, *labels)

    def test_what_another_process_counted_is_added(self):
        theirs, ours = Meters(), Meters()
        theirs.counter(HITS, "here").add()
        theirs.histogram(SIZES).observe(1.5)
        theirs.gauge(DEPTH).set(7)
        ours.counter(HITS, "here").add()
        ours.add(pickle.loads(pickle.dumps(theirs.take())))
        assert ours.take() == Readings(
            {(HITS, ("here",)): 2}, {(SIZES, ()): Observed((0, 1, 0), 1.5)}, gauges={}
        )


class Recorded:
    """Ray's metrics, less Ray."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.keys, self.values = tag_keys, VALUES.setdefault(name, {})

    def _record(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.keys)
        key = tuple(tags.values())
        self.values[key] = self.values.get(key, 0) + value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        self._record(value, tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[tuple(tags.values())] = value


VALUES: dict[str, Any] = {}


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    VALUES.clear()
    monkeypatch.setattr(metrics_export, "Counter", Recorded)
    monkeypatch.setattr(metrics_export, "Gauge", Recorded)
    return VALUES


class TestExport:
    def test_a_histogram_becomes_prometheus_counters_each_bucket_with_all_smaller_ones(self, values):
        meters, exporter = Meters(), RayMetrics()
        sizes = meters.histogram(SIZES)
        exporter.export(meters.take())
        assert values["sizes_bucket"] == {("1",): 0, ("2",): 0, ("+Inf",): 0}
        for size in (1.5, 1.5, 0.5, 3):
            sizes.observe(size)
            exporter.export(meters.take())
        assert values["sizes_bucket"] == {("1",): 1, ("2",): 3, ("+Inf",): 4}
        assert (values["sizes_sum"], values["sizes_count"]) == ({(): 6.5}, {(): 4})

    def test_a_histogram_that_another_process_has_begun_has_its_empty_buckets_too(self, values):
        theirs, ours = Meters(), Meters()
        theirs.histogram(SIZES).observe(1.5)
        ours.add(theirs.take())
        RayMetrics().export(ours.take())
        assert values["sizes_bucket"] == {("1",): 0, ("2",): 1, ("+Inf",): 1}

    def test_counters_begin_at_0_and_rise(self, values):
        meters, exporter = Meters(), RayMetrics()
        hit = meters.counter(HITS, "here")
        exporter.export(meters.take())
        assert values["hits"] == {("here",): 0}
        hit.add()
        exporter.export(meters.take())
        exporter.export(meters.take())
        assert values["hits"] == {("here",): 1}

    def test_gauges_are_set(self, values):
        meters = Meters()
        meters.gauge(DEPTH).set(3)
        RayMetrics().export(meters.take())
        assert values["depth"] == {(): 3}


class TestStrangers:
    def test_gauges_of_several_processes_are_summed_up_and_one_not_heard_of_counts_no_more(self):
        strangers, depth = Strangers(), (DEPTH, ())
        strangers.hear("a", {depth: 1}, now=0)
        strangers.hear("b", {depth: 1}, now=10)
        assert strangers.gauges(10) == {depth: 2}
        assert strangers.gauges(FORGET_AFTER + 1) == {depth: 1}
        strangers.hear("b", {depth: 0}, now=12)
        assert strangers.gauges(FORGET_AFTER + 1) == {depth: 0}


class TestRelay:
    async def test_an_entity_hands_on_what_it_counted_and_then_rests(self, monkeypatch):
        monkeypatch.setattr(metrics_export, "RELAY_EVERY", 0.0)
        meters, reports = Meters(), []

        async def report(origin: str, readings: Readings) -> None:
            reports.append(readings)

        relay = Relay(meters, report)
        for _ in range(2):
            meters.counter(HITS, "here").add()
            relay.remind()
            relay.remind()
            await relay._task
        assert [each.risen for each in reports] == [{(HITS, ("here",)): 1}] * 2

    async def test_as_long_as_a_gauge_is_up_it_says_so_and_once_more_when_it_is_down(self, monkeypatch):
        monkeypatch.setattr(metrics_export, "RELAY_EVERY", 0.0)
        meters, told = Meters(), []
        depth = meters.gauge(DEPTH)
        depth.set(1)

        async def report(origin: str, readings: Readings) -> None:
            told.append(readings.gauges[DEPTH, ()])
            depth.set(1 if len(told) < 3 else 0)

        relay = Relay(meters, report)
        relay.remind()
        await relay._task
        assert told == [1, 1, 1, 0]


class TestRecorders:
    @pytest.mark.parametrize(("circuit", "shown"), [(Closed(), 0), (Open(until=1.0), 1), (HalfOpen(), 1)])
    def test_a_breaker_that_tries_one_call_still_turns_the_others_away(self, circuit, shown):
        meters = Meters()
        breaker_gauge(meters, "write")(circuit)
        assert meters.take().gauges == {(catalogue.BREAKER_OPEN, ("write",)): shown}

    def test_each_outcome_is_counted_and_the_time_it_took(self):
        meters = Meters()
        recorder = CommandRecorder(meters)
        meters.take()
        for refusal in (None, None, Code.NOT_FOUND, Code.UNAVAILABLE):
            recorder.begun()
            recorder.answered(refusal, 0.004)
        readings = meters.take()
        assert {labels[0]: rise for (_, labels), rise in readings.risen.items()} == {
            "accepted": 2,
            "not_found": 1,
            "unavailable": 1,
        }
        assert sum(readings.observed[catalogue.STAGE_SECONDS, ("total",)].counts) == 4
        assert readings.gauges[catalogue.IN_PROGRESS, ()] == 0

    def test_all_entities_of_a_process_share_their_counters(self):
        meters = Meters()
        for _ in range(1000):
            EntityRecorder(meters).conflicted()
        readings = meters.take()
        assert readings.risen == {(catalogue.CONFLICTS, ()): 1000, (catalogue.TYPE_REFUSALS, ()): 0}
        assert len(readings.observed) == 5


class TestCatalogue:
    def test_names_are_unlike_and_no_label_could_name_an_entity(self):
        names = [metric.name for metric in catalogue.METRICS]
        assert len(set(names)) == len(names)
        labels = {label for metric in catalogue.METRICS for label in metric.labels}
        assert labels == {
            "outcome",
            "stage",
            "code",
            "read_side",
            "state",
            "handler",
            "grounds",
            "port",
            "cause",
        }

    def test_bounds_of_buckets_rise(self):
        for metric in catalogue.METRICS:
            assert list(metric.bounds) == sorted(set(metric.bounds))
            assert bool(metric.bounds) == (metric.kind is Kind.HISTOGRAM)
