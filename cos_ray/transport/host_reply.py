"""What a shard host answers to a command: a reply of the entity, or where that lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cos_ray.domain.messages import Reply
from cos_ray.domain.shard_assignment import Assignment


@dataclass(frozen=True, slots=True)
class Moved:
    """The entity lives elsewhere; nothing was run."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Owned:
    """The entity has a process of its own; nothing was run here."""

    way: bytes
    """How that is reached; another process of the entity is reached otherwise."""


HostReply: TypeAlias = Reply | Moved | Owned
