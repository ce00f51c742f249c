"""
Stopping: SIGTERM and Ctrl-C both mean to stop in good order, once is enough, and it has an end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from types import FrameType, TracebackType

import psutil
from typing_extensions import ParamSpec, Self

_P = ParamSpec("_P")

AFTER_LOSS = 3.0
"""Seconds to go on stopping in good order after the cluster is lost."""

LOOK_EVERY = 0.5
"""Seconds between two looks whether the cluster is still there."""

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """
    Holds the two signals while the service runs, in the main thread.

    Before `wait` a signal interrupts what is being started, as a KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._waiting = False
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}

    def __enter__(self) -> Self:
        self.take_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take_back(self) -> None:
        """Install the handlers; ray.init replaces that of SIGTERM by its own."""
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def wait(self, is_lost: Callable[[], bool]) -> bool:
        """Return when told to stop, True, or when what runs is lost, False."""
        self._waiting = True
        while not self._stop.wait(LOOK_EVERY):
            if is_lost():
                return False
        return True

    def ignore(self) -> None:
        """From now on nothing interrupts: the service is stopping already."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()
        if not self._waiting:
            raise KeyboardInterrupt


class BoundedStop:
    """
    Stops what was started, the last first, within a time.

    A signal to the whole process group takes Ray's own processes away under us, and Ray then
    waits a minute for a head node that is gone. What is still there after the time is killed.
    """

    def __init__(self) -> None:
        self.is_lost: Callable[[], bool] = lambda: False
        """Whether what is to be stopped has gone already, so that stopping it in order is hopeless."""
        self._callbacks = ExitStack()
        self._not_ours: set[psutil.Process] | None = None
        self._is_stuck = False

    def callback(self, stop: Callable[_P, object], /, *arguments: _P.args, **named: _P.kwargs) -> None:
        """Call this on `close`. Processes that run at the first such call are left alone."""
        if self._not_ours is None:
            self._not_ours = _children()
        self._callbacks.callback(stop, *arguments, **named)

    def close(self, within: timedelta) -> None:
        """Make all calls, or give up on them and kill the processes started meanwhile."""
        closing = threading.Thread(target=self._close, name="stopping", daemon=True)
        closing.start()
        deadline = time.monotonic() + within.total_seconds()
        while closing.is_alive() and time.monotonic() < deadline:
            closing.join(0.1)
            if self.is_lost():
                # In good order, too, the head goes before the last call returns.
                deadline = min(deadline, time.monotonic() + AFTER_LOSS)
                self.is_lost = lambda: False
        self._is_stuck = closing.is_alive()
        if self._is_stuck:
            logger.warning("not stopped in good order in time; ended by force")
            _kill(_children() - _families(self._not_ours or set()))

    def leave_if_stuck(self) -> None:
        """End this process at once if `close` gave up: Ray's threads would hold up its orderly end."""
        if self._is_stuck:
            sys.stdout.flush()
            os._exit(0)

    def _close(self) -> None:
        try:
            self._callbacks.close()
        except Exception:
            logger.warning("a part did not stop as it should", exc_info=True)


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _families(processes: set[psutil.Process]) -> set[psutil.Process]:
    """These processes and all that they have started."""
    families = set(processes)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            families.update(process.children(recursive=True))
    return families


def _kill(processes: set[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
