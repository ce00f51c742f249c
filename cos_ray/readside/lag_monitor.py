"""
Looks again and again how far behind the read sides are, for metrics.

From outside their processes, so that one which hangs or is gone is seen to fall behind.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Protocol

from cos_ray.domain.errors import CosError
from cos_ray.domain.read_sides import ReadSideStatus
from cos_ray.ports import Clock, ProgressMeter

logger = logging.getLogger(__name__)

LOOK_EVERY = 10.0
"""Seconds between two looks: each asks the database and every read side's processes."""


class LagSource(Protocol):
    """Source of the read sides' status (`cos_ray.readside.management.ReadSideManagement`)."""

    def status(self) -> Awaitable[Sequence[ReadSideStatus]]:
        """How all read sides fare. Raises JournalUnavailable."""
        ...


async def keep_watch(management: LagSource, clock: Clock, meter: ProgressMeter) -> None:
    """Tell how the read sides fare, until cancelled."""
    while True:
        try:
            for status in await management.status():
                events = sum(behind.lag.events for behind in status.shards)
                meter.fares(status, events, waited(status, clock.now()))
        except CosError as error:
            # What was seen last stays: a database that is away says so by itself.
            logger.debug("read sides cannot be looked at", extra={"reason": str(error)})
        except Exception:
            logger.exception("an unforeseen error in the look at read sides")
        await clock.sleep(LOOK_EVERY)


def waited(status: ReadSideStatus, now: datetime) -> float:
    """For how many seconds the read side's oldest undelivered event has waited; 0 without any."""
    oldest = [behind.lag.oldest for behind in status.shards if behind.lag.oldest is not None]
    return max(0.0, (now - min(oldest)).total_seconds()) if oldest else 0.0
