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


def status_of(failure: Failure, key: IdempotencyKey | None, *, in_doubt: bool) -> Status:
    """
    The status of a command that ended so.

    `in_doubt`: an append of it may be, or may yet be, stored. Then nothing that befell the command
    afterwards says anything about it, a refusal as little as trouble on the way to an answer.
    """
    if in_doubt:
        return OUTCOME_UNKNOWN
    match failure:
        case HandlerFailed():
            return failure.status
        case EventRefused():
            return Status(Code.INVALID_ARGUMENT, f"the journal cannot take the event: {failure}")
        case JournalUnavailable():
            return Status(Code.UNAVAILABLE, f"the journal is unavailable; {nothing_stored(key)}")
        case OutOfTime():
            return OUT_OF_TIME
        case MailboxFull():
            return Status(Code.RESOURCE_EXHAUSTED, "too many commands wait for this entity")
        case Withdrawn():
            return Status(Code.CANCELLED, "the command was taken back: its client has gone")
        case unreachable:
            assert_never(unreachable)


def nothing_stored(key: IdempotencyKey | None) -> str:
    """The words for it, where the journal could not be asked whether the key is known by an earlier call."""
    return "nothing was stored" if key is None else "nothing was stored by this call"


def no_longer_there(key: IdempotencyKey) -> Status:
    """The status for a key whose command is done, when its reply cannot be read any more."""
    text = f"the command of the idempotency key {key} is done; what it led to is no longer in the journal"
    return Status(Code.ALREADY_EXISTS, text)
