"""What all contestants have in common."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.load.requests import Style


class NotAvailable(Exception):
    """A contestant cannot take part here, for this reason."""


class Contestant(abc.ABC):
    """Someone to measure, started once for a whole run and idle unless it is driven."""

    name: str
    """As tables show it."""
    style: Style
    largest_population: int = 1_000
    """How many accounts it may be asked to keep at hand."""
    takes_new_accounts: bool = True
    """Whether accounts that are touched once can be measured."""

    def __init__(self, folder: Path) -> None:
        """`folder` is its own, for data and logs."""
        self.folder = folder
        self.running = ExitStack()

    @abc.abstractmethod
    def start(self) -> None:
        """Start everything and return when it answers. Raises NotAvailable."""

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """Host and port that the load goes to."""

    @abc.abstractmethod
    def processes(self) -> Iterable[tuple[str, psutil.Process]]:
        """Its processes, each with its kind."""

    def stop(self) -> None:
        """End everything."""
        self.running.close()

    def cpu(self) -> Counter[str]:
        """Seconds of CPU so far, by kind of process."""
        spent: Counter[str] = Counter()
        for kind, process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            spent[kind] += times.user + times.system
        return spent


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
