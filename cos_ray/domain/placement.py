"""Which shard host is home to which shard, with sharded placement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import NewType, TypeAlias

from cos_ray.domain.ids import Shard

HostId = NewType("HostId", str)
"""A shard host: its seat's number, and from its second holder on a dot and how many there have been."""

Epoch: TypeAlias = int
"""Says which of two assignments is newer."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who is home to which shards, from some moment on until there is a newer one."""

    epoch: Epoch
    shards: int
    hosts: tuple[HostId, ...]
    """The holder of each seat."""
    given_up: frozenset[HostId] = frozenset()
    """Former holders that did not answer: no use waiting for what they may have to hand over."""

    def host_of(self, shard: Shard) -> HostId:
        """The shard's home."""
        return self.hosts[seats_of_shards(self.shards, len(self.hosts))[shard]]

    def shards_of(self, host: HostId) -> frozenset[Shard]:
        """What the host is home to; nothing if it has no seat."""
        seats = seats_of_shards(self.shards, len(self.hosts))
        return frozenset(Shard(shard) for shard, seat in enumerate(seats) if self.hosts[seat] == host)


@lru_cache(maxsize=64)
def seats_of_shards(shards: int, seats: int) -> tuple[int, ...]:
    """
    Each shard's seat, by rendezvous hashing: the same everywhere, and few move when seats come or go.

    No seat gets more than its even share, rounded up: shards are few, and chance alone would give one
    host twice as many as another.
    """
    most = -(-shards // seats)
    taken = [0] * seats
    chosen = []
    for shard in range(shards):
        open_seats = [seat for seat in range(seats) if taken[seat] < most]
        seat = max(open_seats, key=lambda seat: _affinity(shard, seat))
        taken[seat] += 1
        chosen.append(seat)
    return tuple(chosen)


def resized(assignment: Assignment, seats: int) -> Assignment:
    """So many seats, at least one and no more than there are shards; those who stay keep theirs."""
    seats = max(1, min(seats, assignment.shards))
    kept = assignment.hosts[:seats]
    new = tuple(HostId(str(seat)) for seat in range(len(kept), seats))
    return replace(assignment, epoch=assignment.epoch + 1, hosts=kept + new)


def replaced(assignment: Assignment, host: HostId) -> Assignment:
    """Another holder for the host's seat, under a name of its own: the old one may come back."""
    seat, _, holder = host.partition(".")
    successor = HostId(f"{seat}.{int(holder or 1) + 1}")
    hosts = tuple(successor if each == host else each for each in assignment.hosts)
    return replace(assignment, epoch=assignment.epoch + 1, hosts=hosts, given_up=assignment.given_up | {host})


def _affinity(shard: int, seat: int) -> bytes:
    return blake2b(f"{shard}/{seat}".encode(), digest_size=8).digest()
