"""
The dashboard's queries over a span of time, as Prometheus answers them, drawn as one picture.

    python deploy/observability/plot.py http://127.0.0.1:9090 --minutes 6 --to dashboard.png

For where there is no Grafana; needs matplotlib (`uv sync --group benchmarks`).
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator

DASHBOARD = Path(__file__).parent / "grafana" / "dashboards" / "cos_ray.json"
UNITS = {"reqps": "/s", "ops": "/s", "s": "s", "bytes": "B", "percent": "%", "percentunit": "", "short": ""}
INCHES = 0.42
"""How tall a unit of the dashboard's grid is."""

STEP = 5
"""Seconds between two points."""


def main() -> None:
    """Draw all panels, where they lie on the dashboard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("prometheus")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--until", type=float, default=time.time(), help="seconds since 1970; now")
    parser.add_argument("--to", type=Path, default=DASHBOARD.parents[2] / "dashboard.png")
    arguments = parser.parse_args()
    since = arguments.until - 60 * arguments.minutes
    panels = json.loads(DASHBOARD.read_text())["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(20, INCHES * height))
    for panel in panels:
        place = panel["gridPos"]
        left, bottom = place["x"] / 24, 1 - (place["y"] + place["h"]) / height
        if panel["type"] == "row":
            figure.text(0.01, bottom + 0.2 / height, panel["title"], fontsize=15, weight="bold")
            continue
        tall, wide = place["h"] / height, place["w"] / 24
        margins = 0.7 / height, 1.1 / height
        box = (left + 0.03, bottom + margins[0], wide - 0.04, tall - sum(margins))
        draw(panel, figure.add_axes(box), arguments.prometheus, since, arguments.until)
    figure.savefig(arguments.to, dpi=60)


def draw(panel: dict[str, Any], axis: Any, prometheus: str, since: float, until: float) -> None:
    """One panel."""
    for target in panel["targets"]:
        for series in answers(prometheus, target["expr"], since, until):
            times = [(float(at) - since) / 60 for at, _ in series["values"]]
            values = [float(value) for _, value in series["values"]]
            name = target["legendFormat"]
            for label, value in series["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            axis.plot(times, values, linewidth=1.5, label=name)
    unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    axis.set_title(panel["title"], fontsize=12, loc="left")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{short(value)}{unit}"))
    axis.yaxis.set_major_locator(MaxNLocator(3 if panel["type"] == "stat" else 5))
    axis.set_ylim(bottom=0, top=max(axis.get_ylim()[1], 0.01))
    axis.set_xlim(0, (until - since) / 60)
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=9)
    if any(axis.get_legend_handles_labels()[1]):
        axis.legend(fontsize=8, ncols=2, loc="upper left", framealpha=0.6)
    if not axis.lines:
        axis.text(0.5, 0.5, "none", ha="center", va="center", transform=axis.transAxes, color="grey")


def answers(prometheus: str, query: str, since: float, until: float) -> list[Any]:
    """What Prometheus has to say."""
    query = query.replace("$__rate_interval", "1m").replace("$read_side", ".*")
    parameters = {"query": query, "start": f"{since:.0f}", "end": f"{until:.0f}", "step": str(STEP)}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=30) as reply:  # noqa: S310 - as told
        result: list[Any] = json.load(reply)["data"]["result"]
    return result


def short(value: float) -> str:
    """Three digits, and a letter for the thousands."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


if __name__ == "__main__":
    main()
