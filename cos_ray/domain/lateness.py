"""How late a message comes, by two clocks that know nothing of each other."""

from __future__ import annotations

import math

DRIFT = 1e-4
"""Seconds per second by which one of the clocks may gain on the other."""


class Lateness:
    """
    Tells by how much a message was under way for longer than the quickest one so far.

    A process that was frozen finds messages that have waited for as long: what they ask for may no
    longer be wanted. Messages carry the time by their sender's clock; it need not agree with the
    receiver's, but has to run at the same rate, as well as `DRIFT` says.
    """

    __slots__ = ("_at", "_least")

    def __init__(self) -> None:
        self._at = 0.0
        # The least difference between the two clocks that a message has shown.
        self._least = math.inf

    def of(self, sent_at: float, received_at: float) -> float:
        """Seconds; 0 for the first message."""
        apart = received_at - sent_at
        self._least = min(apart, self._least + DRIFT * (received_at - self._at))
        self._at = received_at
        return apart - self._least
