"""What a client is told when its command was not run, or not to its end."""

from __future__ import annotations

from typing import TypeAlias

from typing_extensions import assert_never

from cos_ray.domain.errors import (
    OUT_OF_TIME,
    OUTCOME_UNKNOWN,
    Code,
    EventRefused,
    HandlerFailed,
    JournalUnavailable,
    MailboxFull,
    OutOfTime,
    Status,
    Withdrawn,
)
from cos_ray.domain.ids import IdempotencyKey

Failure: TypeAlias = HandlerFailed | EventRefused | JournalUnavailable | OutOfTime | MailboxFull | Withdrawn

_PROVES_NOTHING = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN, Code.CANCELLED}
)


def status_of(failure: Failure, maybe_stored: bool) -> Status:
    """The status of a command that ended so; `maybe_stored`: an earlier try of it got lost."""
    match failure:
        case HandlerFailed():
            status = failure.status
        case EventRefused():
            status = Status(Code.INVALID_ARGUMENT, f"the journal cannot take the event: {failure}")
        case JournalUnavailable():
            status = Status(Code.UNAVAILABLE, "the journal is unavailable; nothing was stored")
        case OutOfTime():
            status = OUT_OF_TIME
        case MailboxFull():
            status = Status(Code.RESOURCE_EXHAUSTED, "too many commands wait for this entity")
        case Withdrawn():
            status = Status(Code.CANCELLED, "the command was taken back before it began")
        case unreachable:
            assert_never(unreachable)
    # A handler that refuses a second run has seen another state, and on another state the first
    # run's events can no longer land. Trouble on the way to an answer proves no such thing.
    proves_nothing = status.code in _PROVES_NOTHING or isinstance(failure, MailboxFull)
    return OUTCOME_UNKNOWN if maybe_stored and proves_nothing else status


def no_longer_there(key: IdempotencyKey) -> Status:
    """The status for a key whose command is done, when its reply cannot be read any more."""
    text = f"the command of the idempotency key {key} is done; what it led to is no longer in the journal"
    return Status(Code.ALREADY_EXISTS, text)
