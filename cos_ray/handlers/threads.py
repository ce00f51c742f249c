"""
Plain functions run beside the event loop, in a bounded number of threads.

Threads take turns in the interpreter anyway, so as long as functions return quickly one thread runs
them all, one after the other, and the loop hears of several results at once: to wake a thread costs
as much as what such a function does. When one does not return quickly, others step in.

Not `concurrent.futures`: it waits for its threads when the process ends, and a handler that hangs
would keep an entity's process from ever ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

PATIENCE = 0.005
"""Seconds for which functions wait behind one that does not return, before another thread steps in."""

_Result = TypeVar("_Result")
_Task: TypeAlias = tuple[Callable[[], Any], contextvars.Context, "asyncio.Future[Any]"]


class Threads:
    """Daemon threads, started as they are needed, up to a bound; beyond it functions wait in order."""

    def __init__(self, most: int, name: str = "write-handler") -> None:
        self._most = most
        self._name = name
        self._tasks: deque[_Task] = deque()
        self._results: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._is_delivering = False
        self._is_watching = False
        self._taken = 0
        # Guards the next two: a thread that finds nothing to do, and a task that comes in this moment.
        self._lock = threading.Lock()
        self._awake = self._asleep = 0
        self._alarm = threading.Semaphore(0)
        self._loop: asyncio.AbstractEventLoop

    def run(self, function: Callable[[], _Result]) -> asyncio.Future[_Result]:
        """
        Run a function that should not raise; to be called in one event loop, always the same.

        Should it raise all the same, the future ends in a RuntimeError.

        Cancelled, or given another result, before its turn, it does not run; later, it runs on in vain.
        """
        self._loop = loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._tasks.append((function, contextvars.copy_context(), future))
        if not self._rouse_if_all_asleep() and not self._is_watching:
            self._is_watching = True
            loop.call_later(PATIENCE, self._watch, self._taken)
        return future

    def _rouse_if_all_asleep(self) -> bool:
        with self._lock:
            if self._awake:
                return False
            self._rouse()
            return True

    def _rouse(self) -> None:
        """One more; the lock is held."""
        if self._asleep:
            self._asleep -= 1
            self._alarm.release()
        elif self._awake < self._most:
            name = f"{self._name}-{self._awake + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        else:
            return
        self._awake += 1

    def _watch(self, taken: int) -> None:
        """Send another thread if none has taken anything since; look again while anything waits."""
        self._is_watching = bool(self._tasks)
        if not self._tasks:
            return
        if taken == self._taken:
            with self._lock:
                self._rouse()
        self._loop.call_later(PATIENCE, self._watch, self._taken)

    def _work(self) -> None:
        while True:
            try:
                function, context, future = self._tasks.popleft()
            except IndexError:
                self._sleep()
                continue
            self._taken += 1
            if not future.done():
                self._hand_in(future, _outcome(context, function))
            del function, context, future  # they hold the application's values

    def _sleep(self) -> None:
        with self._lock:
            if self._tasks:
                return
            self._awake -= 1
            self._asleep += 1
        self._alarm.acquire()

    def _hand_in(self, future: asyncio.Future[Any], result: object) -> None:
        self._results.append((future, result))
        if not self._is_delivering:
            self._is_delivering = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._is_delivering = False

    def _deliver(self) -> None:
        # First: what is handed in from now on may come too late for this time.
        self._is_delivering = False
        while self._results:
            future, result = self._results.popleft()
            if future.done():
                continue
            if isinstance(result, _Raised):
                future.set_exception(result.error)
            else:
                future.set_result(result)


@dataclass(frozen=True, slots=True)
class _Raised:
    error: Exception


def _outcome(context: contextvars.Context, function: Callable[[], Any]) -> Any:
    try:
        return context.run(function)
    except BaseException as error:  # noqa: BLE001 - a thread that ended with it would be missed for good
        return _Raised(RuntimeError(f"a function that must not raise did: {error!r}"))
