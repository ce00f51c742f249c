"""What happens after a failure: how long to wait, how often, and what when that did not help."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TypeAlias


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


class LastResort(Enum):
    """What becomes of an event that no retry will be spent on any more."""

    STOP = "stop"
    """Its shard stops before it, until an operator resumes it."""
    SKIP = "skip"
    """It is stepped over; the entity's next event is delivered."""
    PARK = "park"
    """It is set aside as a dead letter, and so are the later events of its entity; others go on."""


Remedy: TypeAlias = timedelta | LastResort
"""Wait so long and try again; or give up, in this way."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How long a read side insists on delivering an event that its handler does not confirm."""

    retries: int | None = None
    """How often the event is delivered again; None: for ever."""
    waits: Backoff = Backoff()
    """The waits between these deliveries."""
    last_resort: LastResort = LastResort.STOP
    """What follows when none of them was confirmed."""

    def after(self, failures: int) -> Remedy:
        """What to do after so many failed deliveries of an event (1 or more)."""
        if self.retries is not None and failures > self.retries:
            return self.last_resort
        return self.waits.wait(failures)
