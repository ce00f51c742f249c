"""
Plain functions run beside the event loop, in a bounded number of threads.

Not `concurrent.futures`: it waits for its threads when the process ends, and a handler that hangs
would keep an entity's process from ever ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Task(Generic[_Result]):
    """A function to run, and who waits for what it returns."""

    function: Callable[[], _Result]
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[_Result]

    def run(self) -> None:
        if self.future.cancelled():
            return
        result = self.context.run(self.function)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._deliver, result)

    def _deliver(self, result: _Result) -> None:
        if not self.future.done():
            self.future.set_result(result)


class Threads:
    """Daemon threads, started as they are needed, up to a bound; beyond it functions wait in order."""

    def __init__(self, most: int, name: str = "write-handler") -> None:
        self._most = most
        self._name = name
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._tasks: queue.SimpleQueue[_Task[Any]] = queue.SimpleQueue()

    def run(self, function: Callable[[], _Result]) -> asyncio.Future[_Result]:
        """
        Run a function that never raises; to be called in the event loop.

        Cancelled before its turn, it does not run. Cancelled later, it runs on and nobody waits.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._tasks.put(_Task(function, contextvars.copy_context(), loop, future))
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                self._idle.release()
                task = self._tasks.get()
            task.run()
            del task  # holds the application's values
