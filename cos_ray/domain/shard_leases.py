"""
Which of two runs of a read side is to have a shard, and for how long a claim to it holds.

A claim is a lease. Its holder times it from its request for the renewal, by a clock that never goes back;
challengers time it from the stored renewal, by the database's clock. The holder's lease so ends first, and no
two deliver at once, whatever hangs or is cut off; unless a machine is suspended as a whole, and its clock
with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta


@dataclass(frozen=True, slots=True, order=True)
class LeaseRank:
    """What a run of a read side may ask for: the greater one, field by field, is given the shard."""

    generation: int
    """The release it belongs to: later ones have greater numbers."""
    at_home: bool
    """Whether the shard is one that the process begins with, rather than one it looks after for another."""
    run: int
    """Which run it is, of all there ever were: of two copies of a process, the later one wins."""

    def in_shards(self, *, at_home: bool) -> LeaseRank:
        """The standing of the same run in shards of its own, or of others."""
        return replace(self, at_home=at_home)


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a claim holds, each time counted from its last renewal."""

    renewal: timedelta = timedelta(seconds=2)
    """When it is renewed."""
    begins: timedelta = timedelta(seconds=5)
    """How long deliveries are begun ..."""
    delivers: timedelta = timedelta(seconds=7)
    """... and after how long those under way are cut short ..."""
    lasts: timedelta = timedelta(seconds=8)
    """... before others may take the shard."""

    def __post_init__(self) -> None:
        if not timedelta(0) < self.renewal < self.begins <= self.delivers < self.lasts:
            raise ValueError("a lease is renewed before it is run down, and run down before it is over")

    def may_begin(self, confirmed_at: float, now: float) -> bool:
        """Whether a delivery may be begun; times in seconds of one clock."""
        return now < confirmed_at + self.begins.total_seconds()

    def ends_at(self, confirmed_at: float) -> float:
        """When what is under way is to be cut short."""
        return confirmed_at + self.delivers.total_seconds()
