"""
Logs why the database refuses statements: each cause once a minute, however many commands meet it.

Clients are told UNAVAILABLE, and no more. Without a line here nobody would learn that a right is
lacking, or a disk full.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

import psycopg

from cos_ray.postgres.database import one_line

logger = logging.getLogger(__name__)

AT_MOST_EVERY = timedelta(minutes=1)
"""How often one cause is logged."""

_MOST_CAUSES = 100

_OF_NAMES_ONLY = "42"
"""The class of errors whose texts name objects of the database, and nothing of the events."""


class RefusalLog:
    """What has been logged of late, in one process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._logged_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, what: str, error: BaseException) -> None:
        """Log that this happened, with the reason, unless the same was logged less than a minute ago."""
        cause, now = f"{what}: {_cause_of(error)}", self._monotonic()
        if now - self._logged_at.get(cause, float("-inf")) < AT_MOST_EVERY.total_seconds():
            self._unsaid[cause] = self._unsaid.get(cause, 0) + 1
            return
        if len(self._logged_at) >= _MOST_CAUSES:
            self._logged_at.clear()
            self._unsaid.clear()
        self._logged_at[cause] = now
        facts = {"reason": _reason_of(error), "times_before": self._unsaid.pop(cause, 0)}
        if (state := _state_of(error)) is not None:
            facts["sqlstate"] = state
        logger.error(what, extra=facts)


def _state_of(error: BaseException) -> str | None:
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def _reason_of(error: BaseException) -> str:
    """The first line only: the others may show what is in a row."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or one_line(error)


def _cause_of(error: BaseException) -> str:
    state = _state_of(error)
    if state is None or state.startswith(_OF_NAMES_ONLY):
        return _reason_of(error)
    return state


refusals = RefusalLog()
"""This process's own."""
