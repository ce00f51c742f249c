"""
Shows what a command is doing and how long that takes.

On a terminal a line moves while a step runs; elsewhere each finished step is one plain line,
which a log collector or a test can read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import Progress as Live
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text


class Progress:
    """Steps with their durations, then what is ready."""

    def __init__(self, output: TextIO | None = None) -> None:
        """Write to `output`; standard output unless told otherwise."""
        output = output or sys.stdout
        self._console = Console(file=output, highlight=False, soft_wrap=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._live = Live(*columns, console=self._console, transient=True)
        self._running = 0
        self._done, self._failed = _marks(output.encoding or "utf-8")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show the text while the block runs, then how long it took. Steps may lie in each other."""
        begun = time.monotonic()
        try:
            with self._shown(text):
                yield
        except BaseException:
            self._say(self._failed, "red", text, begun)
            raise
        self._say(self._done, "green", text, begun)

    def note(self, text: str) -> None:
        """Say something worth seeing while a step runs."""
        self._console.print(Text(f"  {text}", style="dim"))

    def ready(self, lines: Sequence[str]) -> None:
        """Say that all is up, in these lines."""
        for line in lines:
            self._console.print(Text(line, style="bold"))

    @contextmanager
    def _shown(self, text: str) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        task = self._live.add_task(text, total=None)
        self._running += 1
        self._live.start()
        try:
            yield
        finally:
            self._running -= 1
            self._live.remove_task(task)
            if not self._running:
                self._live.stop()

    def _say(self, mark: str, color: str, text: str, begun: float) -> None:
        seconds = f" ({time.monotonic() - begun:.1f} s)"
        self._console.print(Text.assemble((mark, color), " ", text, (seconds, "dim")))


def _marks(encoding: str) -> tuple[str, str]:
    """The signs for done and failed which the output can show."""
    try:
        "✓✗".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "ok", "failed:"
    return "✓", "✗"
