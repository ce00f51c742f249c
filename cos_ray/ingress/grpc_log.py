"""
What gRPC's server logs of calls that only their client can mend, kept out of the log.

It writes a traceback for each text of a call that is no UTF-8, and goes on with the text read as Latin-1; and
one for each answer that it could not send. A client could fill the disk with them.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import Any

_LOGGER = "grpc._cython.cygrpc"


class _Filter(logging.Filter):
    """Drops the lines, and remembers what they were about."""

    def __init__(self) -> None:
        super().__init__()
        self.garbled: weakref.ref[Any] | None = None
        self.unreadable_paths = 0
        self.broken_answers = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging."""
        if str(record.msg).startswith("Invalid encoding on"):
            self.garbled = _this_task()
            return False
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, UnicodeDecodeError):
            self.unreadable_paths += 1
            return False
        if type(error).__name__ == "ExecuteBatchError":
            self.broken_answers += 1
            return False
        return True


_FILTER = _Filter()


def watch_grpc_log() -> None:
    """From now on, in this process."""
    logging.getLogger(_LOGGER).addFilter(_FILTER)


def has_garbled_metadata() -> bool:
    """
    Whether the metadata of the call that this task has just begun with hold what is no UTF-8.

    gRPC reads them and looks for the call's method in one go.
    """
    if _FILTER.garbled is None:
        return False
    task, _FILTER.garbled = _FILTER.garbled(), None
    return task is not None and task is asyncio.current_task()


def take_counts() -> tuple[int, int]:
    """Since the last time: calls whose path was no UTF-8, and answers that could not be sent."""
    counts = (_FILTER.unreadable_paths, _FILTER.broken_answers)
    _FILTER.unreadable_paths = _FILTER.broken_answers = 0
    return counts


def _this_task() -> weakref.ref[Any] | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # a thread without a loop: a client's
        return None
    return None if task is None else weakref.ref(task)
