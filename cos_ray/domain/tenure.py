"""How long the parts of a deployed release stay: as long as a replica of its ingress needs them."""

from __future__ import annotations

LAPSES_AFTER = 30.0
"""Seconds without a word of any replica after which nobody needs a release any more."""


class Tenure:
    """Since when nobody has needed a release. Times are seconds of any one clock."""

    def __init__(self, now: float) -> None:
        # Whoever starts a release has as long to say so as replicas have from one word to the next.
        self._needed_at = now

    def note(self, now: float) -> None:
        """A replica is there."""
        self._needed_at = max(self._needed_at, now)

    def is_over(self, now: float) -> bool:
        """Whether no replica has been heard for so long that none will be."""
        return now - self._needed_at >= LAPSES_AFTER
