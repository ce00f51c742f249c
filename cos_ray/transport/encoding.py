"""
Commands and replies as bytes, on their way between processes.

Pickled as plain tuples, for that takes a fifth of the time of pickling the values themselves; and
Ray passes bytes on as they are.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

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
from cos_ray.domain.shard_assignment import Assignment
from cos_ray.domain.trace_ids import Trace
from cos_ray.transport.batching import Batch, BatchReply
from cos_ray.transport.host_reply import HostReply, Moved, Owned

Plain = tuple[Any, ...]


def batch_to_bytes(assignment: Assignment, batch: Batch) -> bytes:
    """The batch, and the assignment that made it go where it goes."""
    requests = [(request_id, _plain_command(command)) for request_id, command in batch.requests]
    return pickle.dumps((_plain_assignment(assignment), requests, list(batch.withdrawn)), 5)


def batch_from_bytes(data: bytes, late: float = 0.0) -> tuple[Assignment, Batch]:
    """What `letter_to_bytes` was given, its commands with so many seconds less."""
    assignment, plain_requests, withdrawn = pickle.loads(data)  # noqa: S301 - from a process of ours
    requests = [(request_id, _command(late, *plain)) for request_id, plain in plain_requests]
    return Assignment(*assignment), Batch(requests, withdrawn)


def reply_to_bytes(answer: BatchReply) -> bytes:
    """Who answers, and replies, each with the request_id of its request."""
    replies = [(request_id, *_plain_reply(reply)) for request_id, reply in answer.replies]
    return pickle.dumps((answer.server, replies), 5)


def reply_from_bytes(data: bytes) -> BatchReply:
    """What `answer_to_bytes` was given."""
    server, replies = pickle.loads(data)  # noqa: S301 - from a process of ours
    return BatchReply(server, [(request_id, _READ[kind](*plain)) for request_id, kind, plain in replies])


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
