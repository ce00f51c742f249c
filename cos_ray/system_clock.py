"""The clock of the machine, as `ports.Clock` wants it."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        """The date and time, aware, in UTC."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
