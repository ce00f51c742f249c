"""When a snapshot is taken, and what it makes dispensable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cos_ray.domain.ids import ReadSideId, Revision


@dataclass(frozen=True, slots=True)
class Retention:
    """How often the state is saved, and how much of a history is kept (as in CoS)."""

    frequency: int = 100
    """How many events of an entity lie between two snapshots."""
    keep: int = 2
    """How many snapshots of an entity are kept."""
    deletes_events: bool = False
    """Whether events are deleted when snapshots have made them dispensable."""
    read_sides: tuple[ReadSideId, ...] = ()
    """What any of these has yet to see is not deleted."""
    delete_after: timedelta = timedelta(seconds=30)
    """
    How long after its snapshot events are deleted. Until then a command that got lost can still be
    found in the journal by its events, so this is longer than any command lives.
    """

    def wants_snapshot(self, before: Revision, after: Revision) -> bool:
        """Whether a command that led from one sequence number to another has reached or passed a multiple."""
        return after // self.frequency > before // self.frequency

    def dispensable(self, snapshot: Revision) -> Revision:
        """The newest event that is dispensable after a snapshot at this sequence number; 0: none is."""
        return Revision(max(0, snapshot - self.keep * self.frequency))
