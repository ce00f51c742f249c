"""How long the parts of a deployed release stay: as long as a replica of its ingress needs them."""

from __future__ import annotations

LAPSES_AFTER = 30.0
"""Seconds without a word after which a replica counts as gone."""


class Tenure:
    """Who needs a release, and since when nobody does. Times are seconds of any one clock."""

    def __init__(self, now: float) -> None:
        self._heard: dict[str, float] = {}
        # Whoever starts a release has as long to say so as any replica has from one word to the next.
        self._needed_at = now

    def note(self, replica: str, now: float) -> None:
        """This replica is there."""
        self._heard[replica] = now
        self._needed_at = now

    def replicas(self, now: float) -> int:
        """How many are there."""
        self._heard = {name: heard for name, heard in self._heard.items() if now - heard < LAPSES_AFTER}
        return len(self._heard)

    def is_over(self, now: float) -> bool:
        """Whether no replica has been there for so long that none will come."""
        return now - self._needed_at >= LAPSES_AFTER
