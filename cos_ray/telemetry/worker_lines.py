"""
What the service's processes write, as it comes out of its launcher.

Their log lines are complete; who wrote them is added. Whatever else they write (libraries', Ray's own and
the application's prints, a traceback) is made a line of the same style, so that a collector of logs can
read all of them alike.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone


@dataclass(frozen=True, slots=True)
class Author:
    """Whose lines they are."""

    name: str
    """An actor's class, mostly."""
    pid: str
    node: str | None = None
    """Its address, where that is another node's."""


_SERVES = re.compile(
    r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \S+ \S+ -- (.*)"
)
"""A line of Ray Serve's own processes, which have their own style: level and sentence."""


def worth_showing(lines: Iterable[str], level: int) -> Iterator[str]:
    """What one process wrote, without blank lines, and without what Serve says below this level."""
    is_shown = True
    for line in lines:
        if (serves := _SERVES.match(line)) is not None:
            is_shown = getattr(logging, serves[1]) >= level
        elif is_ours(line):
            is_shown = True
        # Any other line goes on with what was begun before.
        if is_shown and line.strip():
            yield line


def shown(line: str, author: Author, style: str, service: str, now: datetime) -> str:
    """A line of a process, as it is to be shown."""
    if style != "JSON":
        where = "" if author.node is None else f", ip={author.node}"
        return f"({author.name} pid={author.pid}{where}) {line}"
    facts: dict[str, object] = {"process": author.name, "pid": author.pid}
    if author.node is not None:
        facts["node"] = author.node
    if is_ours(line):
        # As it is: it is JSON, and ends so.
        return f"{line.rstrip()[:-1]}, {json.dumps(facts)[1:]}"
    time = now.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    raw = {"message": line, "level": "info", "logger": "output", "timestamp": time, "service": service}
    if (serves := _SERVES.match(line)) is not None:
        raw |= {"message": serves[2], "level": serves[1].lower(), "logger": "ray.serve"}
    return json.dumps({**raw, **facts}, ensure_ascii=False)


def is_ours(line: str) -> bool:
    """Whether this is a line of the service's log, in JSON."""
    if not line.startswith("{") or not line.rstrip().endswith("}"):
        return False
    try:
        content = json.loads(line)
    except ValueError:
        return False
    return isinstance(content, dict) and {"message", "level", "service"} <= content.keys()
