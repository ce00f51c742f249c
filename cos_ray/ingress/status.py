"""How a domain status reaches a gRPC client."""

from __future__ import annotations

from typing import Protocol

import grpc
from google.rpc.status_pb2 import Status as RichStatus

from cos_ray.domain.errors import Code, Status

_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}

_DETAILS = "grpc-status-details-bin"

MOST_SAID_TWICE = 1_500
"""
Bytes of a message that is repeated in the details at the most.

Clients bound what they take for trailers, 8 KiB mostly; there a message beyond ASCII takes thrice its
size, and the details a third more than theirs. A status that does not fit reaches no client at all.
"""


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

    Nothing is raised: Serve would add a stack trace to what the client sees.
    """
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
    """Code and message as a `google.rpc.Status`, which Chief of State's clients may look for there."""
    message = status.message.encode("utf-8", "replace")
    if len(message) > MOST_SAID_TWICE:
        return None
    octets: bytes = RichStatus(code=status.code.value, message=message.decode()).SerializeToString()
    return octets


class StreamRefused(Exception):
    """Ends a stream before its first message; the client sees the status set before, no more."""


def refused_stream(context: ReplyContext, status: Status) -> StreamRefused:
    """
    What a streaming method raises to end with this status.

    A stream that merely returns loses its status on the way through Serve's own proxy.
    """
    refuse(context, status)
    return StreamRefused(status.message)
