"""What stands for a gRPC context when a method is called on behalf of an HTTP request."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Collection, Iterable

import grpc

from cos_ray.domain.errors import Code, Status


class BadHeader(Exception):
    """A request header cannot be metadata; the text says which, and why."""


class HttpContext:
    """A `ReplyContext` that keeps what it is told."""

    is_http = True

    def __init__(self, metadata: list[tuple[str, str | bytes]], route: str = "HTTP") -> None:
        """`route`: method and path of the request, the path with names in the place of values."""
        self._metadata = metadata
        self.route = route
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailers: list[tuple[str, str | bytes]] = []
        self.opened = asyncio.Event()
        """Set when a stream has been let in, before its first message."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """See `ReplyContext`."""
        self._code = code

    def set_details(self, details: str) -> None:
        """See `ReplyContext`."""
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None:
        """See `ReplyContext`."""
        self._trailers = trailing_metadata

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        """See `ReplyContext`."""
        return self._metadata

    def add(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """What stands elsewhere in the request than in its headers."""
        self._metadata.extend(metadata)

    @property
    def reply_headers(self) -> dict[str, str]:
        """What gRPC has in a reply's trailers, for the headers of a response."""
        return headers_of(self._trailers)

    def note_live(self, subscription_id: str) -> None:
        """The request's stream has been let in."""
        self.opened.set()

    @property
    def status(self) -> Status | None:
        """How the call ended, if not well."""
        if self._code is None or self._code is grpc.StatusCode.OK:
            return None
        details = next((v for k, v in self._trailers if k == "grpc-status-details-bin"), None)
        return Status(
            Code(self._code.value[0]),
            self._details,
            details if isinstance(details, bytes) else None,
            tuple((key, value) for key, value in self._trailers if isinstance(value, str)),
        )


def headers_of(trailers: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Those trailers that are ours, and text."""
    return {name: value for name, value in trailers if name.startswith("x-cos-") and isinstance(value, str)}


def metadata_of(
    headers: Iterable[tuple[bytes, bytes]], watched: Collection[str]
) -> list[tuple[str, str | bytes]]:
    """
    Request headers as gRPC metadata: `-bin` ones as the bytes their base64 stands for.

    What metadata cannot hold is left out, unless it is of those `watched`, in lower case: BadHeader.
    """
    metadata: list[tuple[str, str | bytes]] = []
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        try:
            metadata.append((name, _bytes(raw_value) if name.endswith("-bin") else raw_value.decode("ascii")))
        except (UnicodeDecodeError, binascii.Error) as error:
            if name in watched or name.startswith("x-cos-"):
                kind = "base64" if name.endswith("-bin") else "ASCII"
                raise BadHeader(f"header {name} is no {kind}") from error
    return metadata


def _bytes(value: bytes) -> bytes:
    # As gRPC does on the wire: with or without padding.
    text = value.strip().rstrip(b"=")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
