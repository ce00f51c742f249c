"""How long commands and replies wait for others to travel with."""

from __future__ import annotations

LONGEST_LINGER = 0.01
"""Seconds that commands and replies wait at most for company."""

LINGER_SHARE = 0.2
"""Of what a command takes, as things are, the part that may be spent on waiting for company."""


class Linger:
    """How long to wait for company: a small part of what commands take lately, none when they are quick."""

    __slots__ = ("_usual",)

    def __init__(self) -> None:
        self._usual = 0.0

    def note(self, taken: float) -> None:
        """A command took so many seconds."""
        self._usual += (min(taken, 1.0) - self._usual) / 16

    @property
    def seconds(self) -> float:
        """The time to wait."""
        return min(LONGEST_LINGER, LINGER_SHARE * self._usual)
