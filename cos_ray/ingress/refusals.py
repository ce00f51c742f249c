"""
What the public ports refuse: counted, and told in at most one line a minute for each port and cause.

Whoever floods a port must not be able to flood the log as well.
"""

from __future__ import annotations

import logging
from collections import Counter

from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.ports import Clock, CommandMeter

logger = logging.getLogger(__name__)

LINE_EVERY = 60.0
"""Seconds between two lines of one port and cause."""


class Refusals:
    """Those of one process; asked in its loop only."""

    def __init__(self, meter: CommandMeter, clock: Clock) -> None:
        self._meter = meter
        self._clock = clock
        self._untold: Counter[tuple[PublicPort, RefusalCause]] = Counter()
        self._last_line: dict[tuple[PublicPort, RefusalCause], float] = {}
        self._last_source: dict[tuple[PublicPort, RefusalCause], str] = {}

    def add(self, port: PublicPort, cause: RefusalCause, source: str | None = None, number: int = 1) -> None:
        """So many more (0: none) were refused; `source`: the address that the last of them came from."""
        if not number:
            return
        for _ in range(number):
            self._meter.refused(port, cause)
        key = (port, cause)
        self._untold[key] += number
        if source:
            self._last_source[key] = source
        self._tell(key)

    def tell(self) -> None:
        """Write the lines that are due; to be called now and then, for what came before it grew quiet."""
        for key in [key for key, number in self._untold.items() if number]:
            self._tell(key)

    def _tell(self, key: tuple[PublicPort, RefusalCause]) -> None:
        now = self._clock.monotonic()
        if now - self._last_line.get(key, -LINE_EVERY) < LINE_EVERY:
            return
        self._last_line[key] = now
        port, cause = key
        facts: dict[str, object] = {"port": port.value, "cause": cause.value, "number": self._untold.pop(key)}
        if (source := self._last_source.pop(key, None)) is not None:
            facts["last_from"] = source
        logger.warning("refused", extra=facts)
