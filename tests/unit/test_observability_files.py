"""The dashboard, the alert rules and the table of metrics, against what the code declares."""

from __future__ import annotations

import re

import pytest
import yaml

from cos_ray.telemetry.catalogue import METRICS, exposed_names
from cos_ray.telemetry.meters import Kind
from tests.support.observability import (
    ALERTS,
    DASHBOARD,
    OBSERVABILITY,
    Query,
    dashboard,
    faults,
    queries,
    rules,
)

OF_RAY = {"ray_node_cpu_utilization": set(), "ray_node_mem_used": set()}
"""Ray's own that the dashboard shows; the test of the running service sees whether they are there."""


def declared() -> dict[str, set[str]]:
    exported = dict(OF_RAY)
    for metric in METRICS:
        for name in exposed_names(metric):
            exported[name] = {*metric.labels, *({"le"} if name.endswith("_bucket_total") else ())}
    return exported


def test_every_query_asks_for_metrics_and_labels_that_are_declared():
    assert len(list(queries())) > 50
    assert faults(list(queries()), declared()) == []


@pytest.mark.parametrize("wrong", ["ray_cos_comands_total", "cos_commands_total", "ray_cos_commands"])
def test_a_wrong_name_planted_in_the_dashboard_or_in_the_rules_is_found(wrong, tmp_path, monkeypatch):
    for variable, path in (("DASHBOARD", DASHBOARD), ("ALERTS", ALERTS)):
        planted = tmp_path / path.name
        planted.write_text(path.read_text().replace("ray_cos_commands_total", wrong))
        with monkeypatch.context() as patch:
            patch.setattr(f"tests.support.observability.{variable}", planted)
            assert any(line.endswith(f"asks for {wrong}") for line in faults(list(queries()), declared()))


def test_a_wrong_label_is_found():
    query = Query("here", 'sum (rate(ray_cos_commands_total{result="accepted"}[1m]))')
    assert faults([query], declared()) == ["here asks ray_cos_commands_total for its result"]


def test_what_is_no_promql_is_found():
    with pytest.raises(ValueError, match=r"^here: "):
        faults([Query("here", "sum (rate(ray_cos_commands_total[1m])")], declared())


def test_every_metric_is_shown_on_the_dashboard():
    shown = {selector.name for query in queries() for selector in query.selectors()}
    hidden = [metric.name for metric in METRICS if shown.isdisjoint(exposed_names(metric))]
    assert hidden == []


def test_panels_lie_side_by_side_with_ids_of_their_own_and_say_what_they_show():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
        assert panel["title"]
        for target in panel.get("targets", ()):
            assert (
                target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            )
    assert [panel["title"] for panel in panels if panel["type"] == "row"][:3] == [
        "Is it well?",
        "How far behind?",
        "Why is it slow?",
    ]


def test_each_alert_says_what_to_do():
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) > 10
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["annotations"]["description"].endswith(".")
        assert re.fullmatch(r"\d+m", rule["for"])


def test_the_commands_that_alerts_name_exist():
    from typer.main import get_command

    from cos_ray.cli.app import app

    command = get_command(app)
    for words in re.findall(r"`cos-ray ([a-z -]+)`", ALERTS.read_text()):
        found = command
        for word in words.split():
            assert word in found.commands, words  # type: ignore[attr-defined]
            found = found.commands[word]  # type: ignore[attr-defined]


def test_settings_that_alerts_and_dashboard_name_exist():
    from cos_ray.config.serving import known_variables

    named = set(re.findall(r"COS_[A-Z_]+[A-Z]", ALERTS.read_text() + DASHBOARD.read_text()))
    assert named
    assert {
        name.removesuffix("S") if name == "COS_SERVICE_NAMES" else name for name in named
    } <= known_variables()


def test_prometheus_and_grafana_find_each_other_and_their_files():
    prometheus = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yml").read_text())
    assert [job["job_name"] for job in prometheus["scrape_configs"]] == ["cos_ray"]
    assert prometheus["rule_files"] == ["/etc/prometheus/alerts.yml"]
    provisioning = OBSERVABILITY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "cos_ray.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def test_the_table_of_metrics_says_what_the_code_says():
    text = (OBSERVABILITY / "README.md").read_text()
    for metric in METRICS:
        name = exposed_names(metric)[0].replace("_bucket_total", "")
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        kind = metric.kind.value if metric.kind is not Kind.HISTOGRAM else "histogram"
        assert f"| `{name}` | {kind} | {labels} | {metric.meaning} |" in text, name
