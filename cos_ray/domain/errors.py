"""What can go wrong, by name, and the status a client sees for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard
from cos_ray.domain.texts import cut, encodable, without_nul

LONGEST_TEXT = 10_000
"""How much of what a handler says is kept, in characters."""


class Code(IntEnum):
    """gRPC's status codes, by gRPC's numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Status:
    """
    How a request ended, when it did not end well.

    Its message is text that UTF-8 can encode, of `LONGEST_TEXT` at most, whatever it is made of.
    """

    code: Code
    message: str = ""
    details: bytes | None = None
    """A serialized `google.rpc.Status`, as `grpc-status-details-bin` carries it."""
    trailers: tuple[tuple[str, str], ...] = ()
    """What else the client is told, as trailing metadata."""

    def __post_init__(self) -> None:
        message = cut(encodable(self.message), LONGEST_TEXT)
        if message is not self.message:
            object.__setattr__(self, "message", message)


OUT_OF_TIME = Status(Code.DEADLINE_EXCEEDED, "the command ran out of time")
"""For a command that was not done within its time; nothing was stored, or nothing is known of it."""

OUTCOME_UNKNOWN = Status(Code.ABORTED, "command outcome unknown: its events may or may not be stored")
"""For a command that was cut off while its events were on their way into the journal."""

NO_ROOM = Status(
    Code.RESOURCE_EXHAUSTED,
    "too many entities want a process of their own: there was no room, or no time, to start this one's; "
    "the command was not run (COS_ENTITY_PLACEMENT=sharded holds many entities in each process)",
)
"""For a command whose entity could not be woken within its time; nothing was stored."""


class CosError(Exception):
    """Something this service foresees. Arguments are positional, so that it survives pickling."""


class RevisionConflict(CosError):
    """Another writer has already journaled the next revision of this entity."""

    def __init__(self, entity_id: EntityId, expected: Revision) -> None:
        super().__init__(entity_id, expected)
        self.entity_id, self.expected = entity_id, expected


class KeyKnown(CosError):
    """The journal already holds what this idempotency key led to; nothing more was stored."""

    def __init__(self, entity_id: EntityId) -> None:
        super().__init__(entity_id)
        self.entity_id = entity_id


class JournalUnavailable(CosError):
    """The journal cannot be reached or refuses work; what was asked of it did not happen."""


class OutcomeUnknown(CosError):
    """Nobody can say yet whether the events were stored."""


class EventRefused(CosError):
    """The journal cannot take this event at all (too large, say); trying again is no use."""


class HandlerFailed(CosError):
    """A write handler answered with an error, or did not answer as agreed."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class Rejected(CosError):
    """
    An application's own write handler refuses a command; the client sees code, message and details.

    `details` is a serialized `google.rpc.Status`, or that message itself. Nothing is stored.
    Raises ValueError for Code.OK, which refuses nothing, and for what is no code.
    """

    def __init__(self, code: Code, message: str = "", details: object = None) -> None:
        code = Code(code)
        if code is Code.OK:
            raise ValueError("a command is not refused with Code.OK")
        super().__init__(code, message, details)
        self.code, self.message, self.details = code, message, details


class CallFailed(CosError):
    """A command or a question did not end well; `status` is what a gRPC client would see."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return f"{self.status.code.name}: {self.status.message}"


class DeliveryFailed(CosError):
    """A read handler did not confirm an event; the reason is for the log, the code for the breaker."""

    def __init__(self, reason: str, code: Code | None = None) -> None:
        # As it can be sent to an operator, and stored beside an event that is set aside.
        reason = without_nul(cut(encodable(reason), LONGEST_TEXT))
        super().__init__(reason, code)
        self.reason, self.code = reason, code

    def __str__(self) -> str:
        return self.reason


class MailboxFull(CosError):
    """Too many commands wait for this entity."""


class OutOfTime(CosError):
    """The time of a command is over, and it is not done."""


class Withdrawn(CosError):
    """A command was taken back before it was appended: no one waits for its reply."""


class EntityLost(CosError):
    """The process an entity lived in went away, or cannot be reached, while it had a command."""


class EntityNotReached(EntityLost):
    """There was no way to the process an entity lives in: the command was not handed over."""


class EntitySilent(CosError):
    """An entity did not answer within the command's time."""


class ReplicasSilent(CosError):
    """Not all processes that serve clients have confirmed what they were told."""


class UnknownReadSide(CosError):
    """No read side of this name is configured and enabled."""

    def __init__(self, read_side: str) -> None:
        super().__init__(read_side)
        self.read_side = read_side

    def __str__(self) -> str:
        return f"unknown read side {self.read_side}"


class WrongShard(CosError):
    """There is no shard of this number."""

    def __str__(self) -> str:
        return "wrong shard number provided"


class ReadSideUnavailable(CosError):
    """The process of a read side does not answer, or does not have what it should; try again."""


class ClaimLost(ReadSideUnavailable):
    """Another process of the read side has the shard: what was asked for is its business."""

    def __init__(self, read_side: ReadSideId, shard: Shard) -> None:
        super().__init__(read_side, shard)
        self.read_side, self.shard = read_side, shard

    def __str__(self) -> str:
        return f"another process of read side {self.read_side} has taken over shard {self.shard}"


class EntityIsErased(CosError):
    """The entity is erased meanwhile: what its events said is kept no more, and handed to nobody."""

    def __init__(self, entity_id: EntityId) -> None:
        super().__init__(entity_id)
        self.entity_id = entity_id


class UnreadableEvent(JournalUnavailable):
    """The journal holds an event that is none we can read; it is not stepped over by itself."""

    def __init__(self, reason: str, offset: Offset) -> None:
        super().__init__(reason, offset)
        self.reason, self.offset = reason, offset

    def __str__(self) -> str:
        return self.reason


class HistoryWentBack(CosError):
    """
    The journal no longer holds an event that was read from it: its history is an older one by now.

    So it is after a failover to a standby that lacked the newest events, and with a restored backup.
    """

    def __init__(self, shards: Collection[Shard] = ()) -> None:
        super().__init__(tuple(shards))
        self.shards = tuple(shards)
        """Those that are known to be concerned."""

    def __str__(self) -> str:
        return "the journal went back: an event that was read from it is not there any more"


class EventsDeleted(CosError):
    """Of the events that were asked for, some are deleted: up to this offset."""

    def __init__(self, up_to: Offset) -> None:
        super().__init__(up_to)
        self.up_to = up_to

    def __str__(self) -> str:
        return f"some of the events up to offset {self.up_to} are deleted"


class NoRoom(CosError):
    """An entity could not be woken within a command's time: others take up all the room there is."""


class NotSharded(CosError):
    """There are no shard hosts: each entity has a process of its own."""


class HistoryGap(CosError):
    """The journal shows an event of an entity whose predecessor was never seen: never stepped over."""

    def __init__(self, read_side: ReadSideId, shard: Shard, entity_id: EntityId, offset: Offset) -> None:
        super().__init__(read_side, shard, entity_id, offset)
        self.read_side, self.shard, self.entity_id, self.offset = read_side, shard, entity_id, offset


class ConfigurationError(CosError):
    """A setting is wrong; the message is one line that names it, its value and what is allowed."""


class StartFailed(CosError):
    """The service could not start; the message is one line that says why."""
