"""Calls that come straight from gRPC, and not by way of what Serve wraps around each of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message

from cos_ray.ingress.status import FAILED, refuse

logger = logging.getLogger(__name__)

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]


class StraightContext:
    """What a method is given, in the form of Serve's own: gRPC's context, and what is noted on it."""

    def __init__(self, context: Any, metadata: Metadata) -> None:
        self._context = context
        self._metadata = [(key, value) for key, value in metadata]
        self._code: grpc.StatusCode | None = None

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        """What came with the request, in order, repeated keys included."""
        return self._metadata

    def code(self) -> grpc.StatusCode | None:
        """The code that was set."""
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status code of the reply."""
        self._code = code
        self._context.set_code(code)

    def set_details(self, details: str) -> None:
        """The status message of the reply."""
        self._context.set_details(details)

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        """The metadata after the reply; a second call replaces the first."""
        self._context.set_trailing_metadata(tuple(trailing_metadata))


async def answer_straight(
    method: Callable[[Any, Any], Awaitable[Message]], request: Message, context: Any, metadata: Metadata
) -> bytes | None:
    """
    The method's reply, ready to be sent; None if there is none, for the service failed.

    The status is set in either case.
    """
    straight = StraightContext(context, metadata)
    try:
        return (await method(request, straight)).SerializeToString()
    except Exception:
        logger.exception("a request ended in an unforeseen error")
        refuse(straight, FAILED)
        return None
