"""
The dashboard's queries over a span of time, as Prometheus answers them, drawn as one picture.

    python deploy/observability/plot.py http://127.0.0.1:9090 --minutes 6 --to dashboard.png

For where there is no Grafana; needs matplotlib (`uv sync --group benchmarks`).
"""

from __future__ import annotations

import argparse
import json
import math
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

DASHBOARD = Path(__file__).parent / "grafana" / "dashboards" / "cos_ray.json"
UNITS = {"reqps": "/s", "ops": "/s", "s": "s", "bytes": "B", "percent": "%", "percentunit": "", "short": ""}
STEP = 5
"""Seconds between two points."""


def main() -> None:
    """Draw all panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("prometheus")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--to", type=Path, default=DASHBOARD.parents[2] / "dashboard.png")
    arguments = parser.parse_args()
    until = time.time()
    since = until - 60 * arguments.minutes
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    rows = math.ceil(len(panels) / 3)
    figure, axes = plt.subplots(rows, 3, figsize=(18, 3 * rows), layout="constrained")
    for panel, axis in zip(panels, axes.flat, strict=False):
        draw(panel, axis, arguments.prometheus, since, until)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.savefig(arguments.to, dpi=70)


def draw(panel: dict[str, Any], axis: Any, prometheus: str, since: float, until: float) -> None:
    """One panel."""
    for target in panel["targets"]:
        for series in answers(prometheus, target["expr"], since, until):
            times = [(float(at) - since) / 60 for at, _ in series["values"]]
            values = [float(value) for _, value in series["values"]]
            name = target["legendFormat"]
            for label, value in series["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            axis.plot(times, values, linewidth=1.2, label=name)
    unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    axis.set_title(panel["title"], fontsize=11, loc="left")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{short(value)}{unit}"))
    axis.set_ylim(bottom=0)
    axis.set_xlim(0, (until - since) / 60)
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=8)
    handles = [name for name in axis.get_legend_handles_labels()[1] if name]
    if handles:
        axis.legend(fontsize=7, ncols=2, loc="upper left", framealpha=0.5)
    if not axis.lines:
        axis.text(0.5, 0.5, "none", ha="center", va="center", transform=axis.transAxes, color="grey")


def answers(prometheus: str, query: str, since: float, until: float) -> list[Any]:
    """What Prometheus has to say."""
    query = query.replace("$__rate_interval", "40s").replace("$read_side", ".*")
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
