"""Where handlers are and how they are reached: values that travel to the processes that call them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

MESSAGE_LIMIT = 32 * 1024 * 1024
"""The largest message to or from a handler, in bytes, unless told otherwise."""


TOO_LARGE = "COS_HANDLER_MAX_MESSAGE_BYTES allows more"
"""What to say of a message beyond the limit."""

_RESERVE = 8 * 1024
"""Bytes kept free in a message that shows an event: for ids, and for what frames it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """
    How a connection is secured. Files are read by the process that connects, when it does.

    Each new process reads them anew, so replaced certificates are taken up.
    """

    ca_file: str | None = None
    """The certificates to trust, PEM; None: the system's."""
    cert_file: str | None = None
    """The client certificate to show, PEM, with `key_file`."""
    key_file: str | None = None
    server_name: str | None = None
    """The name the server's certificate must have, when it is not the host's."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Pings on an idle or silent gRPC connection, in milliseconds."""

    time_ms: int
    timeout_ms: int
    without_calls: bool


@dataclass(frozen=True, slots=True)
class GrpcEndpoint:
    """A handler that listens for gRPC."""

    host: str
    port: int
    tls: Tls | None = None
    keepalive: Keepalive | None = None
    pool_size: int = 1
    """How many channels a process opens; calls take turns."""
    message_limit: int = MESSAGE_LIMIT
    sends_anything: bool = False
    """Whether messages to it may be larger: what the journal holds is delivered, whatever its size."""

    def __str__(self) -> str:
        return address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """A handler that listens for HTTP/JSON."""

    host: str
    port: int
    tls: Tls | None = None
    message_limit: int = MESSAGE_LIMIT
    sends_anything: bool = False
    """As in GrpcTarget."""

    def __str__(self) -> str:
        return address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class PythonEndpoint:
    """A handler that is a Python class and runs in the process that calls it."""

    reference: str
    """`package.module:Class`."""
    search_path: str | None = None
    """A folder to look in when the module is not found among what is installed."""
    message_limit: int = MESSAGE_LIMIT
    setting: str = "COS_WRITE_SIDE_HANDLER"
    """Where it was named, for complaints."""

    def __str__(self) -> str:
        return self.reference


WriteTarget: TypeAlias = GrpcEndpoint | HttpEndpoint | PythonEndpoint
ReadTarget: TypeAlias = GrpcEndpoint | HttpEndpoint | PythonEndpoint


def largest_event(target: WriteTarget) -> int:
    """
    Bytes that an event may have, with the state it leads to and its metadata, to be carried everywhere.

    So a read handler or a client that takes messages of the target's limit is given both in one, and the
    write handler at least the state with its next command.
    """
    room = target.message_limit - min(_RESERVE, target.message_limit // 8)
    # Its JSON has messages in base64.
    return room * 3 // 4 if isinstance(target, HttpEndpoint) else room


def address(host: str, port: int) -> str:
    """Host and port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
