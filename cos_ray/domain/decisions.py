"""What a write handler's answer to a command means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cos_ray.domain.messages import NOTHING, Packed


@dataclass(frozen=True, slots=True)
class NoChange:
    """The command leads to no event."""


@dataclass(frozen=True, slots=True)
class Persist:
    """The command leads to these events, in this order; there is at least one."""

    events: tuple[Packed, ...]


Decision: TypeAlias = NoChange | Persist


def decide(events: Sequence[Packed], single_event: Packed) -> Decision:
    """
    Read a HandleCommandResponse: `events` if there are any, else the older field `event`.

    Entries equal to the default `Any` say nothing and are dropped (as in CoS).
    """
    happened = tuple(event for event in (events or (single_event,)) if event != NOTHING)
    return Persist(happened) if happened else NoChange()
