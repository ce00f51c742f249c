"""The collector's configuration holds together, and takes traces in where the service sends them."""

from __future__ import annotations

from pathlib import Path

import yaml

FILE = Path(__file__).parents[2] / "deploy" / "observability" / "otel-collector.yaml"


def test_pipelines_are_made_of_parts_that_are_there_and_all_parts_are_used() -> None:
    content = yaml.safe_load(FILE.read_text())
    assert set(content) == {"receivers", "processors", "exporters", "extensions", "service"}
    pipelines = content["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[kind]} == set(content[kind])
    assert set(content["service"]["extensions"]) == set(content["extensions"])


def test_traces_come_in_by_otlp_and_go_on_to_jaeger() -> None:
    content = yaml.safe_load(FILE.read_text())
    protocols = content["receivers"]["otlp"]["protocols"]
    assert protocols["grpc"]["endpoint"].endswith(":4317")
    assert protocols["http"]["endpoint"].endswith(":4318")
    pipeline = content["service"]["pipelines"]["traces"]
    assert pipeline["processors"][0] == "memory_limiter"
    assert "jaeger" in content["exporters"][pipeline["exporters"][0]]["endpoint"]
