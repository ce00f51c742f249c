"""What every command gets on its way in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandPolicy:
    """What every command gets on its way in."""

    command_timeout: float
    """Seconds for a command, everything included."""
    propagated_headers: tuple[str, ...] = ()
    """Metadata keys that the write handler's HandleCommand is to see."""
    persisted_headers: tuple[str, ...] = ()
    """Metadata keys that are stored with each event."""
    commands_at_once: int = 5_000
    """How many commands one replica has in hand; the next are turned away."""
