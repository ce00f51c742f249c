"""Log lines: a sentence and its facts, in three styles."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cos_ray.telemetry.logs import OURS, configure_logs

logger = logging.getLogger("cos_ray.test")


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    handlers, levels = [*root.handlers], (root.level, ours.level)
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_json_lines_hold_sentence_facts_and_service(output: io.StringIO) -> None:
    configure_logs("INFO", "JSON", "bank", output)
    logger.info("entity recovered", extra={"entity_id": "é", "revision": 3})
    line = json.loads(output.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "message": "entity recovered",
        "entity_id": "é",
        "revision": 3,
        "level": "info",
        "logger": "cos_ray.test",
        "service": "bank",
    }


@pytest.mark.parametrize(
    ("style", "end"),
    [
        ("STANDARD", "Z [info     ] entity recovered [cos_ray.test] entity_id=e revision=3\n"),
        ("SIMPLE", "[info     ] entity recovered entity_id=e revision=3\n"),
    ],
)
def test_lines_for_people_begin_with_the_sentence(style: str, end: str, output: io.StringIO) -> None:
    configure_logs("INFO", style, "bank", output)
    logger.info("entity %s", "recovered", extra={"entity_id": "e", "revision": 3})
    assert output.getvalue().endswith(end)


@pytest.mark.parametrize("style", ["JSON", "STANDARD", "SIMPLE"])
def test_bytes_are_counted_never_shown(style: str, output: io.StringIO) -> None:
    configure_logs("INFO", style, "bank", output)
    logger.info("odd event", extra={"event_bytes": b"secret"})
    assert "secret" not in output.getvalue()
    assert "<6 bytes>" in output.getvalue()


@pytest.mark.parametrize("style", ["JSON", "STANDARD", "SIMPLE"])
def test_tracebacks_show_no_values_of_variables(style: str, output: io.StringIO) -> None:
    configure_logs("INFO", style, "bank", output)
    try:
        password = "".join(["hid", "den"])
        raise ValueError(len(password))
    except ValueError:
        logger.exception("failed")
    assert "ValueError: 6" in output.getvalue()
    assert "hidden" not in output.getvalue()


def test_libraries_are_not_heard_below_info(output: io.StringIO) -> None:
    configure_logs("DEBUG", "SIMPLE", "bank", output)
    logging.getLogger("psycopg").debug("parameters: ...")
    logger.debug("ours")
    assert "ours" in output.getvalue()
    assert "parameters" not in output.getvalue()


def test_configured_again_a_line_is_written_once(output: io.StringIO) -> None:
    for _ in range(2):
        configure_logs("WARN", "SIMPLE", "bank", output)
    logger.info("not this")
    logger.warning("this")
    assert output.getvalue().count("this") == 1


@pytest.mark.parametrize(("level", "style"), [("LOUD", "JSON"), ("INFO", "XML")])
def test_another_level_or_style_is_an_error(level: str, style: str, output: io.StringIO) -> None:
    with pytest.raises(ValueError, match=level if level == "LOUD" else style):
        configure_logs(level, style, "bank", output)


def test_structlog_is_imported_with_the_first_line_only() -> None:
    program = (
        "import sys; from cos_ray.telemetry.logs import configure_logs;"
        "configure_logs('INFO', 'JSON', 'bank'); assert 'structlog' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
