"""How much is read at once: bounded by bytes as well as by number, whatever a single event weighs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

PAGE_OCTETS = 4 * 1024 * 1024
"""Bytes of payload after which a page ends. One item always comes, however large it is."""

_SMALLEST = 32 * 1024
_ONE_ROW = 1
_SHRINKS_BY = 8

USUAL_TIME = 5.0
"""Seconds that the statement for a page may take ..."""

LONGEST_TIME = 60.0
"""... and the statement for a single row, where that was not enough."""

_QUICK = 1.0
_SLOW = 2.5

_Item = TypeVar("_Item")


class Page(list[_Item]):
    """Some of what was asked for, in order."""

    def __init__(self, items: Iterable[_Item] = (), *, has_more: bool = False) -> None:
        super().__init__(items)
        self.has_more = has_more
        """Whether more may follow right behind: it ended for its size."""


class PageSize:
    """
    How large the next page may be, learned from the last ones: less where the wire is slow.

    Comes down to one row, which then is given more and more time. Known is only how long a page took,
    so a server that hangs looks like a slow wire: each try is longer than the one before, up to a minute.
    """

    def __init__(self, largest: int = PAGE_OCTETS) -> None:
        self._largest = largest
        self.octets = largest
        """Bytes after which it ends; 1: it is one row."""
        self.time = USUAL_TIME
        """Seconds that it may take."""

    @property
    def is_one_row(self) -> bool:
        """Whether a page holds one row."""
        return self.octets == _ONE_ROW

    def rows(self, wanted: int) -> int:
        """How many rows to look at, of so many: looking takes time, too."""
        return max(1, wanted * self.octets // self._largest)

    def ran_out_of_time(self) -> None:
        """A page took longer than it may."""
        if self.is_one_row:
            self.time = min(LONGEST_TIME, self.time * 2)
            return
        smaller = self.octets // _SHRINKS_BY
        self.octets = smaller if smaller >= _SMALLEST else _ONE_ROW

    def took(self, seconds: float) -> None:
        """A page came in so many seconds."""
        if seconds < _QUICK:
            self.time = USUAL_TIME
            self.octets = min(self._largest, max(_SMALLEST, self.octets * 2))
        elif seconds > _SLOW and not self.is_one_row:
            self.octets = max(_SMALLEST, self.octets // 2)
