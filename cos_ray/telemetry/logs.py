"""
Log lines as configured, the same in every process of the service.

Code logs through the standard library, `logger.info("entity recovered", extra={...})`; structlog
turns that into a line. It is imported with the first line that is written, because each entity has
a process of its own and many of them never write one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TextIO

LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}
STYLES = ("JSON", "STANDARD", "SIMPLE")

OURS = "cos_ray"
"""The logger above all of ours."""

THEIRS = ("ray", "ray.serve")
"""Loggers that would write lines of their own style to standard error."""

_LEFT_BY_OTHERS = ("message", "asctime", "_ray_timestamp_ns")
"""What other formatters, and Ray, leave on a record; it would look like facts."""


_noted: Callable[[], Mapping[str, str]] | None = None


def note_in_lines(facts: Callable[[], Mapping[str, str]]) -> None:
    """Have these facts in each line of this process: the trace it belongs to, say."""
    global _noted  # noqa: PLW0603 - a process has one set of logs
    _noted = facts


def configure_logs(level: str, style: str, service: str, output: TextIO | None = None) -> None:
    """
    Write log lines of this process to `output`, standard error unless told otherwise.

    `level` is one of LEVELS. Libraries are heard from INFO on, or from `level` if that is higher:
    what they say to DEBUG may hold payloads. `style` is one of STYLES: JSON, an object with all
    facts and the service's name; STANDARD, time, level, sentence, facts and logger; SIMPLE, level,
    sentence and facts. Calling it again replaces what was configured. Raises ValueError for
    another level or style.
    """
    if level not in LEVELS or style not in STYLES:
        raise ValueError(f"no such log level or style: {level} {style}")
    # The process's own: in a replica Serve puts something in the place of `sys.stderr` that swallows lines.
    handler = logging.StreamHandler(output or sys.__stderr__ or sys.stderr)
    handler.setFormatter(_Line(style, service))
    root = logging.getLogger()
    for former in [*root.handlers]:
        if isinstance(former.formatter, _Line):
            root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(max(LEVELS[level], logging.INFO))
    logging.getLogger(OURS).setLevel(LEVELS[level])
    for name in THEIRS:
        _adopt(logging.getLogger(name))


def _adopt(logger: logging.Logger) -> None:
    """Let the logger's lines be written like all others; what it writes to files it goes on to write."""
    for handler in [*logger.handlers]:
        if type(handler) is logging.StreamHandler or type(handler).__name__ == "PlainRayHandler":
            logger.removeHandler(handler)
    logger.propagate = True


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How every process of the service logs; sent to each."""

    level: str
    style: str
    service: str

    def apply(self) -> None:
        """Configure the logs of this process."""
        configure_logs(self.level, self.style, self.service)


class _Line(logging.Formatter):
    """Writes a record as a line, by structlog."""

    def __init__(self, style: str, service: str) -> None:
        super().__init__()
        self._named, self._service = style, service

    def format(self, record: logging.LogRecord) -> str:
        return self._structlog.format(record)

    @cached_property
    def _structlog(self) -> logging.Formatter:
        import structlog
        from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

        time = structlog.processors.TimeStamper(fmt="iso", utc=True)
        facts: list[Any] = [ExtraAdder(), _facts_only, _with_noted]
        match self._named:
            case "JSON":
                facts += [add_log_level, add_logger_name, time, self._with_service]
                last: list[Any] = [
                    structlog.processors.format_exc_info,
                    structlog.processors.EventRenamer("message"),
                    structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
                ]
            case "STANDARD":
                facts += [add_log_level, add_logger_name, time]
                last = [_console()]
            case _:
                facts += [add_log_level]
                last = [_console()]
        return ProcessorFormatter(
            processors=[ProcessorFormatter.remove_processors_meta, *last], foreign_pre_chain=facts
        )

    def _with_service(
        self, _logger: object, _method: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        line["service"] = self._service
        return line


def _console() -> Any:
    """A line for people; without color, which would end up in files and pipes."""
    from structlog.dev import ConsoleRenderer, plain_traceback

    # The plain traceback: others show the values of variables, and some of those are payloads or secrets.
    return ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=plain_traceback)


def _with_noted(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if _noted is not None:
        for name, value in _noted().items():
            line.setdefault(name, value)
    return line


def _facts_only(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave out what is no fact: bytes are payloads, or as good as, and only their number is written."""
    for name in _LEFT_BY_OTHERS:
        line.pop(name, None)
    for name, value in line.items():
        if isinstance(value, bytes | bytearray | memoryview):
            line[name] = f"<{len(value)} bytes>"
    return line
