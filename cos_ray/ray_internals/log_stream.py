"""
The way of the processes' log lines: to their standard error, and by Ray to the launcher's.

Ray keeps what each process writes in its session's folder on that node, and sends it to the launcher.
There it would be printed with names before each line, and lines that look alike would be left out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray._private.worker import filter_autoscaler_events

from cos_ray.telemetry.logs import LEVELS, LogSettings
from cos_ray.telemetry.worker_lines import Author, shown, worth_showing

_RAYS = "ray_print_logs"
"""The name of Ray's own printer."""


def print_worker_lines(logs: LogSettings) -> None:
    """Print all that the cluster's processes write for this program, in the style of its own lines."""

    def print_lines(data: Mapping[str, Any]) -> None:
        try:
            lines = list(_lines(data, logs))
        except Exception as error:  # noqa: BLE001 - raised in Ray's thread it would end all printing
            lines = [f"lines of a process cannot be shown: {type(error).__name__}"]
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()

    global_worker_stdstream_dispatcher.remove_handler(_RAYS)
    global_worker_stdstream_dispatcher.add_handler(_RAYS, print_lines)


def _lines(data: Mapping[str, Any], logs: LogSettings) -> Iterable[str]:
    pid = str(data.get("pid"))
    name = data.get("actor_name") or data.get("task_name") or "worker"
    if pid in ("autoscaler", "raylet", "gcs_server"):
        name = pid
    node = data.get("ip")
    author = Author(name, pid, None if node == data.get("localhost") else node)
    lines = data.get("lines") or []
    if pid == "autoscaler":
        lines = filter_autoscaler_events(lines)
    now = datetime.now(timezone.utc)
    for line in worth_showing(lines, max(LEVELS[logs.level], logging.WARNING)):
        yield shown(line, author, logs.style, logs.service, now)
