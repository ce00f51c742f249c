"""How many entities one process keeps in memory, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """The bounds of a process with many entities."""

    idle_after: float = 120.0
    """Seconds without a command after which an entity is passivated."""
    entities: int = 100_000
    """The most entities; beyond it the least recently used idle ones are passivated."""
    octets: int = 512 * 1024 * 1024
    """The most bytes of states and what goes with them; likewise."""
