"""What is measured of an event that a read side is done with."""

from __future__ import annotations

from datetime import datetime

from typing_extensions import assert_never

from cos_ray.domain.messages import JournaledEvent
from cos_ray.ports import ReadSideMeter
from cos_ray.readside.projection import Settled


def measure(meter: ReadSideMeter, now: datetime, event: JournaledEvent, how: Settled) -> None:
    """Tell the meter."""
    match how:
        case Settled.DELIVERED:
            date = event.envelope.meta.date
            age = (now - date).total_seconds() if date else 0.0
            meter.delivered(max(0.0, age))
        case Settled.PARKED:
            meter.parked()
        case Settled.SKIPPED:
            meter.skipped()
        case unreachable:
            assert_never(unreachable)
