"""As of when it is known of the events that wait in memory that none is of an erased entity."""

from __future__ import annotations

import math


class KnownErasures:
    """Of one shard's window. Times are seconds of the clock."""

    def __init__(self) -> None:
        self.time = -math.inf
        """As of then, what an erased entity's events said does not wait here."""
        self._oldest_read = math.inf
        """When the oldest of the reads began that brought something since the last question."""

    def read(self, began: float, *, was_empty: bool) -> None:
        """Events were added by a read that began then; `was_empty`: nothing waited before."""
        self.time = began if was_empty else min(self.time, began)
        self._oldest_read = min(self._oldest_read, began)

    def begin_question(self) -> None:
        """The journal is being asked about all that waits now."""
        self._oldest_read = math.inf

    def answered(self, asked_at: float) -> None:
        """It has answered; what was read meanwhile may have been read before it was asked."""
        self.time = min(asked_at, self._oldest_read)
