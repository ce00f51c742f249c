"""Which shard host is home to which shard, with sharded placement."""

from __future__ import annotations

from collections.abc import Collection
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
    """Of each seat, the last holder that did not answer and was replaced; those before it count as well."""

    def gave_up(self, host: HostId) -> bool:
        """Whether it did not answer and was replaced: no use waiting for what it may have to hand over."""
        seat, holder = _place(host)
        return any(given == seat and holder <= last for given, last in map(_place, self.given_up))

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


def resized(assignment: Assignment, seats: int, present: Collection[HostId]) -> Assignment:
    """
    So many seats, at least one and no more than there are shards; those who stay keep theirs.

    `present`: all hosts whose process may live, with a seat or without.
    """
    seats = max(1, min(seats, assignment.shards))
    kept = assignment.hosts[:seats]
    new = tuple(_next_holder(assignment, seat, present) for seat in range(len(kept), seats))
    return replace(assignment, epoch=assignment.epoch + 1, hosts=kept + new)


def replaced(assignment: Assignment, host: HostId, present: Collection[HostId]) -> Assignment:
    """Another holder for the host's seat, which does not answer. `present`: see `resized`."""
    seat, _ = _place(host)
    successor = _next_holder(assignment, seat, present)
    hosts = tuple(successor if each == host else each for each in assignment.hosts)
    others = frozenset(each for each in assignment.given_up if _place(each)[0] != seat)
    return replace(assignment, epoch=assignment.epoch + 1, hosts=hosts, given_up=others | {host})


def _next_holder(assignment: Assignment, seat: int, present: Collection[HostId]) -> HostId:
    """A name that no other holder of the seat has, or had when it was given up: such a one may come back."""
    known = map(_place, {*assignment.hosts, *assignment.given_up, *present})
    holder = 1 + max((holder for its_seat, holder in known if its_seat == seat), default=0)
    return HostId(str(seat) if holder == 1 else f"{seat}.{holder}")


def _place(host: HostId) -> tuple[int, int]:
    """Its seat, and which of the seat's holders it is, counted from 1."""
    seat, _, holder = host.partition(".")
    return int(seat), int(holder or 1)


def _affinity(shard: int, seat: int) -> bytes:
    return blake2b(f"{shard}/{seat}".encode(), digest_size=8).digest()
