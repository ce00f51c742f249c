"""
Commands and replies as bytes, on their way between processes.

Pickled as plain tuples, for that takes a fifth of the time of pickling the values themselves; and
Ray passes bytes on as they are.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from cos_ray.domain.causes import Trace
from cos_ray.domain.errors import Code, Status
from cos_ray.domain.messages import (
    Accepted,
    Command,
    EntityState,
    Header,
    Headers,
    Meta,
    Refused,
    TryElsewhere,
)
from cos_ray.domain.placement import Assignment
from cos_ray.writeside.exchange import Answer, Letter
from cos_ray.writeside.host_reply import HostReply, Moved, Owned

Plain = tuple[Any, ...]


def letter_to_bytes(assignment: Assignment, letter: Letter) -> bytes:
    """The letter, and the assignment that made it go where it goes."""
    errands = [(ticket, _plain_command(command)) for ticket, command in letter.errands]
    return pickle.dumps((_plain_assignment(assignment), errands, list(letter.withdrawn)), 5)


def letter_from_bytes(parcel: bytes, late: float = 0.0) -> tuple[Assignment, Letter]:
    """What `letter_to_bytes` was given, its commands with so many seconds less."""
    assignment, plain_errands, withdrawn = pickle.loads(parcel)  # noqa: S301 - from a process of ours
    errands = [(ticket, _command(late, *plain)) for ticket, plain in plain_errands]
    return Assignment(*assignment), Letter(errands, withdrawn)


def answer_to_bytes(answer: Answer) -> bytes:
    """Who answers, and replies, each with the ticket of its errand."""
    replies = [(ticket, *_plain_reply(reply)) for ticket, reply in answer.replies]
    return pickle.dumps((answer.desk, replies), 5)


def answer_from_bytes(parcel: bytes) -> Answer:
    """What `answer_to_bytes` was given."""
    desk, replies = pickle.loads(parcel)  # noqa: S301 - from a process of ours
    return Answer(desk, [(ticket, _READ[kind](*plain)) for ticket, kind, plain in replies])


def _plain_command(command: Command) -> Plain:
    return (
        command.entity_id,
        command.payload,
        command.command_id,
        command.budget,
        _plain_headers(command.propagated),
        _plain_headers(command.persisted),
        command.maybe_stored,
        command.key,
        command.expected_revision,
        command.sent_at,
        None if (trace := command.trace) is None else (trace.parent, trace.state, trace.baggage),
    )


def _command(
    late: float,
    entity_id: Any,
    payload: Any,
    command_id: Any,
    budget: float,
    propagated: Plain,
    persisted: Plain,
    maybe_stored: bool,
    key: Any,
    expected_revision: Any,
    sent_at: float,
    trace: Plain | None,
) -> Command:
    return Command(
        entity_id,
        payload,
        command_id,
        budget - late,
        _headers(propagated),
        _headers(persisted),
        maybe_stored,
        key,
        expected_revision,
        sent_at,
        None if trace is None else Trace(*trace),
    )


def _plain_reply(reply: HostReply) -> tuple[str, Plain]:
    match reply:
        case Accepted(EntityState(state, meta, sequence_number)):
            headers = _plain_headers(meta.headers)
            plain = (state, sequence_number, meta.entity_id, meta.revision, meta.date, headers, meta.data)
            return "accepted", plain
        case Refused(status):
            return "refused", (int(status.code), status.message, status.details, status.trailers)
        case TryElsewhere(maybe_stored):
            return "elsewhere", (maybe_stored,)
        case Moved(assignment):
            return "moved", _plain_assignment(assignment)
        case Owned(way):
            return "owned", (way,)


def _accepted(
    state: Any, sequence_number: Any, entity_id: Any, revision: Any, date: Any, headers: Plain, data: Any
) -> Accepted:
    meta = Meta(entity_id, revision, date, _headers(headers), data)
    return Accepted(EntityState(state, meta, sequence_number))


def _refused(code: int, message: str, details: bytes | None, trailers: Any) -> Refused:
    return Refused(Status(Code(code), message, details, trailers))


def _moved(*assignment: Any) -> Moved:
    return Moved(Assignment(*assignment))


def _plain_assignment(assignment: Assignment) -> Plain:
    return (assignment.epoch, assignment.shards, assignment.hosts, assignment.given_up)


def _plain_headers(headers: Headers) -> Plain:
    return tuple((header.key, header.value) for header in headers)


def _headers(plain: Plain) -> Headers:
    return tuple(Header(key, value) for key, value in plain)


_READ: dict[str, Callable[..., HostReply]] = {
    "accepted": _accepted,
    "refused": _refused,
    "elsewhere": TryElsewhere,
    "moved": _moved,
    "owned": Owned,
}
