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
    states: tuple[Packed, ...] = ()
    """The states that the first of them lead to, where the handler has said so in the same trip."""


Decision: TypeAlias = NoChange | Persist


def decide(events: Sequence[Packed], single_event: Packed, states: Sequence[Packed] = ()) -> Decision:
    """
    Read a HandleCommandResponse: `events` if there are any, else the older field `event`.

    Entries equal to the default `Any` say nothing and are dropped (as in CoS). `states` are those that
    the events lead to, as far as the handler has said; unless it is beyond doubt which belongs to which,
    they count for nothing.
    """
    told = events or (single_event,)
    happened = tuple(event for event in told if event != NOTHING)
    if not happened:
        return NoChange()
    is_clear = len(happened) == len(told) and len(states) <= len(happened)
    return Persist(happened, tuple(states) if is_clear else ())
