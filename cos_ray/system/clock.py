"""The clock of the machine, as `ports.Clock` wants it."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone

# On Linux, `time.monotonic` stands still while a machine is suspended, and whoever goes by it believes on
# waking that no time has passed: that a claim is still its own, or that a client still waits.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Seconds since some fixed moment, those included in which the machine was suspended."""
    return time.clock_gettime(_CLOCK)


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        """The date and time, aware, in UTC."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return seconds()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
