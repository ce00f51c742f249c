"""Whether an earlier append of a command may be stored, or may yet be stored."""

from __future__ import annotations

import math

from cos_ray.domain.ids import Revision
from cos_ray.domain.messages import Command, EntityState

_IS_THERE = -1.0
"""Below every sequence number: it lands nowhere any more, but it may have landed."""


class Doubt:
    """
    What is not known of the earlier appends of one command.

    An append lands only while its entity is at the sequence number that it was made for. So it can
    land no more once the journal has the entity further on; if the journal then does not know the
    command (nor its key), it has not landed either. Until then a refusal or a no-op proves nothing:
    the events may be stored after it was said.
    """

    __slots__ = ("_expected_revision", "_lands_up_to")

    def __init__(self, command: Command) -> None:
        """A command that another copy may have run may be appended there, at whatever number."""
        self._expected_revision = command.expected_revision
        # None: no append of it is in doubt.
        self._lands_up_to: float | None = math.inf if command.maybe_stored else None

    def __bool__(self) -> bool:
        return self._lands_up_to is not None

    def may_land_at(self, sequence_number: Revision) -> None:
        """An append made for an entity at this sequence number has had no answer."""
        self._lands_up_to = max(sequence_number, self._lands_up_to or 0)

    def may_be_there(self) -> None:
        """The journal was said to know the command's key; by which command, is to be read from it."""
        self._lands_up_to = _IS_THERE if self._lands_up_to is None else self._lands_up_to

    def not_found(self, state: EntityState) -> None:
        """The journal, asked after this newest state was read from it, knows neither command nor key."""
        if self._lands_up_to is None:
            return
        # Wherever the command was run, it was run at the revision that it expects, or not at all.
        expected = self._expected_revision
        is_past = expected is not None and state.meta.revision > expected
        if is_past or state.sequence_number > self._lands_up_to:
            self._lands_up_to = None
