"""A process of our own making: what it says is read along, and it never outlives us by accident."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, Queue
from time import monotonic


class ChildFailed(Exception):
    """A child process ended, or kept silent, when something else was expected; says its last words."""


class ChildProcess:
    """A Python module run in a process, its output lines at hand."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run `python -m <arguments>`."""
        self._name = " ".join(arguments)
        self._lines: Queue[str | None] = Queue()
        self._last: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C at the terminal is for us, who then stop the child in good order.
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def wait_for(
        self,
        is_wanted: Callable[[str], bool],
        within: float,
        meanwhile: Callable[[str], None] = lambda line: None,
    ) -> str:
        """The next output line that is wanted, shown the others; `within` seconds. Raises ChildFailed."""
        deadline = monotonic() + within
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                raise ChildFailed(f"{self._name}: nothing after {within:.0f} s{self._last_words()}") from None
            if line is None:
                status = self._process.wait()
                raise ChildFailed(f"{self._name} ended with status {status}{self._last_words()}")
            if is_wanted(line):
                return line
            meanwhile(line)

    def stop(self, within: float = 40.0) -> int:
        """End it by SIGTERM, or after `within` seconds by force; its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait(within)

    def wait(self, within: float) -> int:
        """Its exit status, when it ends by itself or, after `within` seconds, by force."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last = [*self._last[-19:], line.rstrip()]
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def _last_words(self) -> str:
        return ":\n  " + "\n  ".join(self._last) if self._last else ""
