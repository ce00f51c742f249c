"""The queries of deploy/observability, taken apart, and what a running service tells Prometheus."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

OBSERVABILITY = Path(__file__).parents[2] / "deploy" / "observability"
DASHBOARD = OBSERVABILITY / "grafana" / "dashboards" / "cos_ray.json"
ALERTS = OBSERVABILITY / "prometheus" / "alerts.yml"

OF_PROMETHEUS = {"up"}
"""What Prometheus itself knows of each target."""

PATIENCE = 3
"""How often a page is asked for before it is given up."""

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and where it stands."""

    place: str
    expression: str

    def selectors(self) -> list[promql_parser.VectorSelector]:
        """What it asks for. Raises ValueError if it is no PromQL."""
        text = self.expression.replace("$__rate_interval", "1m").replace("$read_side", ".*")
        found: list[promql_parser.VectorSelector] = []

        def visit(node: Any) -> None:
            if isinstance(node, promql_parser.VectorSelector):
                found.append(node)

        try:
            promql_parser.walk(promql_parser.parse(text), pre_visit=visit)
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error
        return found


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def queries() -> Iterator[Query]:
    """Those of the dashboard, its variables', and those of the alert rules."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"panel {panel['title']!r}", target["expr"])
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            of_metric = re.fullmatch(r"label_values\((.+), \w+\)", variable["definition"])
            assert of_metric, variable["definition"]
            yield Query(f"variable {variable['name']!r}", of_metric[1])
    for rule in rules():
        yield Query(f"alert {rule['alert']!r}", rule["expr"])


def faults(queries: Collection[Query], exported: Mapping[str, Collection[str]]) -> list[str]:
    """What queries ask for that is not exported: metrics, by name, and their labels."""
    lines = []
    for query in queries:
        for selector in query.selectors():
            if selector.name in OF_PROMETHEUS:
                continue
            if selector.name not in exported:
                lines.append(f"{query.place} asks for {selector.name}")
                continue
            for matcher in selector.matchers.matchers:
                if matcher.name not in exported[selector.name]:
                    lines.append(f"{query.place} asks {selector.name} for its {matcher.name}")
    return lines


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of what is scraped."""

    name: str
    labels: Mapping[str, str]
    value: float


class Scrape:
    """A page of metrics."""

    def __init__(self, text: str) -> None:
        self.samples = [_sample(line) for line in text.splitlines() if line and not line.startswith("#")]

    @classmethod
    def of(cls, url: str) -> Scrape:
        """What is there now; Ray's agent may be slow to answer on a busy machine, but answers."""
        for _ in range(PATIENCE):
            with contextlib.suppress(TimeoutError), urllib.request.urlopen(url, timeout=20) as reply:
                return cls(reply.read().decode())
        raise AssertionError(f"{url} does not answer")

    def labels(self) -> dict[str, set[str]]:
        """Of each metric, what labels it has."""
        labels: dict[str, set[str]] = {}
        for sample in self.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
        return labels

    def total(self, name: str, **labels: str) -> float:
        """The sum over all processes, of those with these labels."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def _sample(line: str) -> Sample:
    match = _SAMPLE.match(line)
    assert match, line
    return Sample(match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"]))
