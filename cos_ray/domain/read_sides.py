"""What read sides say of themselves, and what an operator can tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TypeAlias

from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, RowIdentity


class ShardState(Enum):
    """How a read side fares in one shard."""

    STARTING = "starting"
    """Its offset is not loaded yet, or is being changed."""
    RUNNING = "running"
    RETRYING = "retrying"
    """An event is not confirmed, or the journal cannot be read; tried again after a while."""
    STALLED = "stalled"
    """The journal shows a gap: what lies behind it is not touched until the gap is filled, or skipped."""
    PAUSED = "paused"
    """An operator wants it so."""
    STOPPED = "stopped"
    """It does not go on by itself: the failure policy says so, or its stored offset is unusable."""
    ELSEWHERE = "elsewhere"
    """Another process of the read side has the shard."""
    UNKNOWN = "unknown"
    """No process answers for it."""


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
    """Every event up to here is delivered, skipped or set aside; 0 when unknown."""
    pending: int = 0
    """How many events are read and not yet behind the offset."""
    deliveries: int = 0
    """How many deliveries were confirmed since the process started."""
    failures: int = 0
    """How many deliveries and reads failed since then."""
    skipped: int = 0
    """How many events were stepped over since then, by the failure policy or by an operator."""
    parked: int = 0
    """How many events were set aside since then."""
    last_error: LastError | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind a place in a shard is."""

    events: int = 0
    """How many events follow it."""
    is_more: bool = False
    """Whether there are more than were counted."""
    oldest: datetime | None = None
    """When the first of them was stored."""


@dataclass(frozen=True, slots=True)
class Start:
    """What the journal has at an offset after which a read side is to begin."""

    end: Offset
    """The last offset that the journal ever gave to an event."""
    row: RowIdentity | None = None
    """The event at the offset; None if there is none, or none any more."""
    deleted_to: Offset = Offset(0)  # noqa: RUF009
    """Up to where events of the shard were deleted; 0: none were."""
    accepted_to: Offset = Offset(0)  # noqa: RUF009
    """Up to where it is accepted that the read side does not see them."""

    def unseen_to(self, offset: Offset) -> Offset | None:
        """Up to where events after the offset are deleted; None when none are, or that is accepted."""
        return self.deleted_to if self.deleted_to > max(offset, self.accepted_to) else None

    def fault(self, offset: Offset) -> str | None:
        """Why one must not begin after the offset; None when nothing speaks against it."""
        if offset > self.end:
            return (
                f"the stored offset {offset} lies beyond the end of the journal ({self.end}), so events "
                "up to there would be left out: restart the shard, or replay it from an offset"
            )
        if offset and (unseen := self.unseen_to(offset)) is not None:
            return (
                f"events after the stored offset {offset}, up to {unseen}, were deleted before this read "
                "side had seen them: skip, to go on with those that are left"
            )
        return None

    def remark(self, offset: Offset) -> str | None:
        """What an operator should know of one who begins after the offset, though nothing forbids it."""
        unseen = self.unseen_to(offset)
        return None if unseen is None else f"of the events up to offset {unseen} some are deleted"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an entity's history."""

    events: int
    """How many of them there are in the journal; at least one."""
    first: Revision
    """The sequence number of the first ..."""
    last: Revision
    """... and of the last of them."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was set aside."""

    shard: Shard
    offset: Offset
    envelope: EventEnvelope
    reason: str
    """Why it, or an earlier event of its entity, could not be delivered."""
    failures: int
    """How often its delivery failed; 0 for an event that only follows another dead letter."""
    parked_at: datetime


# What an operator tells the processes of a read side. Each process obeys for the shards it has.


@dataclass(frozen=True, slots=True)
class Report:
    """Say how you fare."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Look anew which shards are paused."""

    resumed: frozenset[Shard] = frozenset()
    """Those of them that are to go on also where a failure stopped them."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Step over the next event of each of these shards that is stuck."""

    shards: frozenset[Shard]


@dataclass(frozen=True, slots=True)
class Replay:
    """Deliver again what comes after these offsets."""

    offsets: Mapping[Shard, Offset]


@dataclass(frozen=True, slots=True)
class ReplayEntities:
    """Deliver the events of these entities again that were delivered before."""

    entities: Mapping[Shard, tuple[EntityId, ...]]


@dataclass(frozen=True, slots=True)
class RetryLetters:
    """Deliver the dead letters of these entities, in order."""

    entities: Mapping[Shard, tuple[EntityId, ...]]
    within: float
    """Seconds after which no further one is begun."""


@dataclass(frozen=True, slots=True)
class DropLetters:
    """Forget dead letters of an entity, without delivering them."""

    shard: Shard
    entity_id: EntityId
    revision: Revision | None = None
    """Only the event with this sequence number; None: all."""


Order: TypeAlias = Report | Refresh | Skip | Replay | ReplayEntities | RetryLetters | DropLetters


@dataclass(frozen=True, slots=True)
class Obeyed:
    """What a process says when it has done as told."""

    shards: tuple[ShardStatus, ...]
    """Those it has, after the order."""
    count: int = 0
    """How many events the order concerned: skipped, delivered, dropped."""
    failed: tuple[str, ...] = ()
    """What did not work, one line each."""


@dataclass(frozen=True, slots=True)
class Behind:
    """A shard of a read side as an operator is shown it."""

    status: ShardStatus
    lag: Lag
    dead_letters: int = 0
    """How many events are set aside."""


@dataclass(frozen=True, slots=True)
class ReadSideStatus:
    """A read side in all its shards, in their order."""

    read_side: ReadSideId
    shards: tuple[Behind, ...] = field(default=())
