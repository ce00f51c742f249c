"""
Sending what has been recorded before a process ends, and not waiting long for a collector that is away.

The library has an end for each batch only (`OTEL_EXPORTER_OTLP_TIMEOUT`, 10 s), and no use for the time that
it lets one give to a flush: a full queue would hold up the end of a process for the better part of a minute.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

FLUSH_WITHIN = 3.0
"""Seconds that the end of a process may wait for the collector."""


class BoundedFlush:
    """Flushes in a thread that nobody has to wait for."""

    def __init__(self, provider: TracerProvider, within: float = FLUSH_WITHIN) -> None:
        self._provider = provider
        self._within = within
        self._has_given_up = False
        self._asked: SimpleQueue[threading.Event] = SimpleQueue()
        # Now: while the interpreter ends, none can be started any more. A daemon, so that none is waited for.
        threading.Thread(target=self._run, name="flushing traces", daemon=True).start()

    def __call__(self) -> None:
        """Return when all is sent, or when it takes too long; what is left then is lost with the process."""
        if self._has_given_up:
            return
        done = threading.Event()
        self._asked.put(done)
        if not done.wait(self._within):
            self._has_given_up = True
            logger.warning("traces are lost: the collector did not take them in time")

    def _run(self) -> None:
        while True:
            done = self._asked.get()
            try:
                self._provider.force_flush()
            except Exception as error:  # noqa: BLE001 - the process ends, whatever is wrong with an exporter
                # The type alone: what it says may quote the variables.
                logger.warning("traces are lost", extra={"reason": type(error).__name__})
            done.set()
