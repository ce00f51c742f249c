"""
How long the parts of a deployed release stay: as long as a replica of its ingress needs them.

Counts checks, not time: a supervisor that was stalled itself, or whose cluster had no head node, must not
mistake that for the silence of its replicas.
"""

from __future__ import annotations

LAPSES_AFTER = 30.0
"""Seconds without a word of any replica after which nobody needs a release any more."""

STARTED_WITHIN = 90.0
"""Seconds that the parts of a release may take to start."""

LOOK_EVERY = 1.0
"""Seconds between two looks, at least; and all that one look adds to the silence."""


class ReleaseLease:
    """For how long nobody has needed a release."""

    def __init__(self) -> None:
        # Whoever starts a release has as long to say so as replicas have from one word to the next.
        self._silence = 0.0
        self._starting = 0.0

    def note(self) -> None:
        """A replica is there."""
        self._silence = 0.0

    def look(self, *, is_starting: bool) -> None:
        """Time passed in which a word would have been heard; `is_starting`: replicas wait for the parts."""
        if is_starting and self._starting < STARTED_WITHIN:
            # They have said their word, and say no other before it is answered.
            self._starting += LOOK_EVERY
        else:
            self._silence += LOOK_EVERY

    def is_over(self) -> bool:
        """Whether no replica has been heard for so long that none will be."""
        return self._silence >= LAPSES_AFTER
