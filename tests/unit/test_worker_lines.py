"""What processes of the service write, as the launcher shows it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from cos_ray.telemetry.logs import OURS, configure_logs
from cos_ray.telemetry.worker_lines import Author, shown, worth_showing

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
HERE, THERE = Author("ShardHostActor", "17"), Author("ShardHostActor", "17", "10.0.0.2")
OURS_LINE = '{"message": "entity recovered", "entity_id": "é", "level": "info", "service": "bank"}'


def test_a_line_of_ours_is_told_whose_it_is_and_otherwise_left_alone() -> None:
    line = json.loads(shown(OURS_LINE, THERE, "JSON", "bank", NOW))
    assert line == {
        **json.loads(OURS_LINE),
        "process": "ShardHostActor",
        "pid": "17",
        "node": "10.0.0.2",
    }
    assert "node" not in json.loads(shown(OURS_LINE, HERE, "JSON", "bank", NOW))


@pytest.mark.parametrize(
    "text",
    ["Traceback (most recent call last):", "{not json}", '{"a": 1}', "{}", '"', "", "[1]", '{"x": "\\u00e9'],
)
def test_any_other_line_becomes_one_object(text: str) -> None:
    line = shown(text, HERE, "JSON", "bank", NOW)
    assert "\n" not in line
    assert json.loads(line) == {
        "message": text,
        "level": "info",
        "logger": "output",
        "timestamp": "2026-01-02T03:04:05Z",
        "service": "bank",
        "process": "ShardHostActor",
        "pid": "17",
    }


@pytest.mark.parametrize("style", ["STANDARD", "SIMPLE"])
def test_lines_for_people_begin_with_whose_they_are(style: str) -> None:
    assert shown("text", HERE, style, "bank", NOW) == "(ShardHostActor pid=17) text"
    assert shown("text", THERE, style, "bank", NOW) == "(ShardHostActor pid=17, ip=10.0.0.2) text"


SERVES = "2026-11-24 00:08:32,401 controller 23037 --"


def test_serves_own_lines_keep_their_level_and_lose_their_style() -> None:
    line = json.loads(shown(f"WARNING {SERVES} a replica is slow", HERE, "JSON", "bank", NOW))
    assert (line["message"], line["level"], line["logger"]) == ("a replica is slow", "warning", "ray.serve")


def test_serves_chatter_is_left_out_with_what_belongs_to_it() -> None:
    lines = [
        f"INFO {SERVES} enabled:",
        "  one",
        "",
        f"ERROR {SERVES} failed",
        "  because",
        f"INFO {SERVES} so",
    ]
    assert list(worth_showing(lines, logging.WARNING)) == [f"ERROR {SERVES} failed", "  because"]
    assert list(worth_showing([f"INFO {SERVES} x", OURS_LINE, "text"], logging.WARNING)) == [
        OURS_LINE,
        "text",
    ]
    assert list(worth_showing([f"WARNING {SERVES} x"], logging.ERROR)) == []


@pytest.fixture
def rays() -> Iterator[logging.Logger]:
    root, ours, rays = logging.getLogger(), logging.getLogger(OURS), logging.getLogger("ray.serve")
    before = [(each, [*each.handlers], each.level, each.propagate) for each in (root, ours, rays)]
    yield rays
    for each, handlers, level, propagate in before:
        each.handlers[:] = handlers
        each.setLevel(level)
        each.propagate = propagate


def test_rays_loggers_write_lines_like_all_others_and_only_once(
    rays: logging.Logger, tmp_path_factory: pytest.TempPathFactory
) -> None:
    theirs, output = io.StringIO(), io.StringIO()
    file = logging.FileHandler(tmp_path_factory.mktemp("serve") / "replica.log")
    rays.handlers[:] = [logging.StreamHandler(theirs), file]
    rays.propagate = False
    configure_logs("INFO", "JSON", "bank", output)
    rays.warning("a replica is slow")
    line = json.loads(output.getvalue())
    assert (line["message"], line["logger"], line["level"]) == ("a replica is slow", "ray.serve", "warning")
    assert theirs.getvalue() == ""
    assert rays.handlers == [file]
    file.close()
