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
    the others lead to, as far as the handler has said.
    """
    happened = tuple(event for event in (events or (single_event,)) if event != NOTHING)
    return Persist(happened, tuple(states[: len(happened)])) if happened else NoChange()
