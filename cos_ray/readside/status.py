"""What a read side can say of itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard


class ShardState(Enum):
    """How a read side fares in one shard."""

    STARTING = "starting"
    """Its offset is not loaded yet."""
    RUNNING = "running"
    RETRYING = "retrying"
    """An event is not confirmed, or the journal cannot be read; tried again after a while."""
    STALLED = "stalled"
    """The journal shows a gap: what lies behind it is not touched until the gap is filled."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class LastError:
    """What went wrong last; it stays after things went well again."""

    reason: str
    date: datetime
    entity_id: EntityId | None = None
    """The entity whose event failed, where it was an event."""
    revision: Revision | None = None


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """A read side in one shard."""

    shard: Shard
    state: ShardState
    offset: Offset
    """Every event up to here is delivered; 0 when unknown."""
    pending: int
    """How many events are read and not yet behind the offset."""
    deliveries: int
    """How many deliveries were confirmed since the start."""
    failures: int
    """How many deliveries and reads failed since the start."""
    last_error: LastError | None


@dataclass(frozen=True, slots=True)
class ReadSideStatus:
    """A read side in all its shards, in their order."""

    read_side: ReadSideId
    shards: tuple[ShardStatus, ...]
