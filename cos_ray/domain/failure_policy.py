"""What happens after a failure: how long to wait, and for how often."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first` up to `longest`."""

    first: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(seconds=30)

    def wait(self, failures: int) -> timedelta:
        """How long to wait after that many failures in a row (1 or more)."""
        # Thirty doublings pass any `longest` there is, and stay within what a timedelta can hold.
        doublings = min(max(failures, 1) - 1, 30)
        return min(self.first * (1 << doublings), self.longest)
