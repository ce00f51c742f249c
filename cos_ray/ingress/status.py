"""How a domain status reaches a gRPC client."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Protocol

import grpc
from google.rpc.status_pb2 import Status as RichStatus

from cos_ray.domain.errors import Code, Status

logger = logging.getLogger(__name__)

_DETAILS = "grpc-status-details-bin"
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}

LARGEST_TRAILERS = 7_100
"""
Bytes of a status's message and details as they are sent: percent-encoded, and in base64.

A client of gRPC takes 8 KiB of trailers unless told otherwise, with their names and 32 bytes for each.
Instead of more it shows RESOURCE_EXHAUSTED.
"""

_CUT = "\N{HORIZONTAL ELLIPSIS}"

FAILED = Status(Code.INTERNAL, "the service failed; its log says why")
"""For a fault of ours: what is raised through Serve would show the client a stack trace."""


class ReplyContext(Protocol):
    """What Serve hands to each gRPC method, as far as it is used here."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status code of the reply."""
        ...

    def set_details(self, details: str) -> None:
        """The status message of the reply."""
        ...

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        """The metadata after the reply; a second call replaces the first."""
        ...

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        """The metadata of the request, in order, repeated keys included."""
        ...


def refuse(context: ReplyContext, status: Status) -> None:
    """
    Let the call end with this status; the method then returns an empty message.

    Nothing is raised: Serve would add a stack trace to what the client sees, and gRPC leave a call
    without an answer whose status it cannot send.
    """
    if status.code not in _GRPC_CODES:
        logger.error("a request ended with a code that is none", extra={"code": repr(status.code)})
        status = FAILED
    status = fitted(status)
    context.set_code(_GRPC_CODES[status.code])
    context.set_details(status.message)
    trailers: list[tuple[str, str | bytes]] = [*status.trailers]
    details = status.details
    # Over HTTP there is one place for code and message, and details are what a handler sent.
    if details is None and not getattr(context, "is_http", False):
        details = _bare_details(status)
    if details is not None:
        trailers.append((_DETAILS, details))
    if trailers:
        context.set_trailing_metadata(trailers)


def _bare_details(status: Status) -> bytes | None:
    """
    Code and message as a `google.rpc.Status`, which Chief of State's clients may look for there.

    None where they find no room beside the message.
    """
    octets: bytes = RichStatus(code=status.code.value, message=status.message).SerializeToString()
    return octets if _is_room(status.message, octets) else None


def fitted(status: Status) -> Status:
    """The status as trailers can carry it: a message that is too long is cut, details are left out."""
    message, details = _shortened(status.message), status.details
    if details is not None and not _is_room(message, details):
        logger.warning("a status's details are too large to be sent", extra={"bytes": len(details)})
        details = None
    if message is status.message and details is status.details:
        return status
    return replace(status, message=message, details=details)


def _is_room(message: str, details: bytes) -> bool:
    return _sent_octets(message) + len(details) * 4 // 3 <= LARGEST_TRAILERS


def _shortened(message: str) -> str:
    # Each byte takes three at the most.
    if len(message) * 4 * 3 <= LARGEST_TRAILERS or _sent_octets(message) <= LARGEST_TRAILERS:
        return message
    room = LARGEST_TRAILERS - _sent_octets(_CUT)
    for place, character in enumerate(message):
        room -= _sent_octets(character)
        if room < 0:
            return message[:place] + _CUT
    return message


def _sent_octets(message: str) -> int:
    """How many bytes it takes percent-encoded, as gRPC sends it."""
    return sum(1 if 0x20 <= octet <= 0x7E and octet != 0x25 else 3 for octet in message.encode())


class StreamRefused(Exception):
    """Ends a stream before its first message; the client sees the status set before, no more."""


def refused_stream(context: ReplyContext, status: Status) -> StreamRefused:
    """
    What a streaming method raises to end with this status.

    A stream that merely returns loses its status on the way through Serve's own proxy.
    """
    refuse(context, status)
    return StreamRefused(status.message)
