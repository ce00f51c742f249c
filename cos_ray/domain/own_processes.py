"""
Which entities get a process of their own, with `auto` placement, and why the others have none.

An entity that is used again and again gets one, as far as there is room and as starts keep up; the busiest
come first. All others live in shard hosts, which costs them nothing but the company.

A command costs several times as much CPU in a process of its own as in a shard host, where commands and
appends travel together. So while the CPUs are busy nobody gets a process, and when they stay so, processes
are given back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from cos_ray.domain.ids import EntityId

BUSY = 3
"""Commands lately from which on a process pays: what is only opened and paid into once needs none."""

LATELY = 10.0
"""Seconds of which commands count, half of them at the least."""

RESTED = 10.0
"""Seconds without a command after which an entity's process may make room for a busier one."""

PAUSE = 1.0
"""The pause after a start, as a multiple of what it took: so starts take half of the time at the most."""

SWAP_PAUSE = 9.0
"""Likewise where another has to leave for it: what comes and goes must not cost more than it is worth."""

BARRED_FOR = 5.0
"""Seconds for which an entity that has lost its process gets none; twice as long with each further loss."""

LONGEST_BARRED = 300.0
"""Seconds."""


SATURATED_LOOKS = 6
"""After how many looks in a row at busy CPUs processes are given back, one with each further look."""


class Why(Enum):
    """Why an entity has no process of its own."""

    SELDOM = "used too seldom"
    STARTING = "its process starts"
    PACED = "others' processes start first"
    NO_ROOM = "no room for a process"
    CPU = "the CPUs are busy"
    BARRED = "lost its process lately"


@dataclass(frozen=True, slots=True)
class Room:
    """What room there is for processes of entities, in the whole cluster."""

    free: int
    """How many more the nodes' memory allows, or the bound that was set."""
    rested: int
    """How many of those there are have rested so long that they may make room."""
    slots: int
    """How many more starts at the same time are of use."""
    is_saturated: bool = False
    """Whether the CPUs have no time to spare."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How starts go here."""

    under_way: int
    """How many have been begun and have not ended."""
    last_took: float
    """Seconds that the last one took; 0 before the first."""
    since_last: float
    """Seconds since it ended."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who gets a process now, and why the others of those that were used lately do not."""

    start: tuple[EntityId, ...]
    """The busiest first."""
    others: Mapping[EntityId, Why]


def choose(
    commands: Mapping[EntityId, int],
    room: Room,
    pace: Pace,
    starting: Collection[EntityId],
    barred: Collection[EntityId],
) -> Choice:
    """`commands`: how many lately each entity has had that lives here; `starting`, `barred`: some of them."""
    others: dict[EntityId, Why] = {}
    wanting = []
    for entity_id, number in commands.items():
        if entity_id in starting:
            others[entity_id] = Why.STARTING
        elif number < BUSY:
            others[entity_id] = Why.SELDOM
        elif entity_id in barred:
            others[entity_id] = Why.BARRED
        else:
            wanting.append(entity_id)
    # By id among equals: the same choice, however they were counted.
    wanting.sort(key=lambda each: (-commands[each], each))
    if room.is_saturated:
        return Choice((), {**others, **dict.fromkeys(wanting, Why.CPU)})
    fitting = max(0, room.free + room.rested - pace.under_way)
    others.update(dict.fromkeys(wanting[fitting:], Why.NO_ROOM))
    pause = PAUSE if room.free > pace.under_way else SWAP_PAUSE
    keeps_up = pace.since_last >= pause * pace.last_took
    now = max(0, room.slots - pace.under_way) if keeps_up else 0
    others.update(dict.fromkeys(wanting[:fitting][now:], Why.PACED))
    return Choice(tuple(wanting[:fitting][:now]), others)


def barred_for(losses: int) -> float:
    """Seconds for which an entity gets no process that has lost so many, one soon after the other."""
    return min(LONGEST_BARRED, BARRED_FOR * 2.0 ** min(max(losses, 1) - 1, 16))
