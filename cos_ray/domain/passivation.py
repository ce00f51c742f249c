"""Which entities leave memory first, how many may be in it, and on which node the next one goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NewType

from cos_ray.domain.ids import EntityId


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """The bounds of a process with many entities."""

    idle_after: float = 120.0
    """Seconds without a command after which an entity is passivated."""
    entities: int = 100_000
    """The most entities; beyond it the least recently used idle ones are passivated."""
    octets: int = 512 * 1024 * 1024
    """The most bytes of states and what goes with them; likewise."""


NodeId = NewType("NodeId", str)
"""A machine of the cluster, or what the cluster takes for one."""

PROCESS_OCTETS = 100 * 1024 * 1024
"""What an entity's own process takes of memory, with room to work."""

FEWEST = 4
"""The default bound of even the smallest node."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """The bounds on entities that have a process each."""

    most_per_node: int | None = None
    """The most of them on one node; None: what the node's memory allows."""
    idle_after: float = 120.0
    """Seconds without a command after which an entity is passivated."""
    most_cpu: float = 0.85
    """The share of the CPUs' time from which on `auto` placement starts no more of them; 1: always."""


def default_bound(memory: int) -> int:
    """How many processes of entities a node holds that has so many bytes for actors: three quarters full."""
    return max(FEWEST, memory * 3 // 4 // PROCESS_OCTETS)


def resting_since(used_at: Mapping[EntityId, float], moment: float) -> list[EntityId]:
    """Those that were not used after the moment, the one used longest ago first."""
    return sorted((each for each, used in used_at.items() if used <= moment), key=used_at.__getitem__)


def least_recently_used(used_at: Mapping[EntityId, float], spared: Collection[EntityId]) -> list[EntityId]:
    """All but the spared ones in the order in which they should go."""
    return sorted((each for each in used_at if each not in spared), key=used_at.__getitem__)


def roomiest(live: Mapping[NodeId, int], bounds: Mapping[NodeId, int]) -> NodeId | None:
    """The node whose bound is used up least, by share; None if all are full."""
    with_room = [node for node, bound in bounds.items() if live.get(node, 0) < bound]
    # By name among equals: the same choice whoever makes it.
    return min(with_room, key=lambda node: (live.get(node, 0) / bounds[node], node), default=None)
