"""Why a client's connection or request is not taken in."""

from __future__ import annotations

from enum import Enum


class PublicPort(Enum):
    """Where it came."""

    GRPC = "grpc"
    HTTP = "http"


class RefusalCause(Enum):
    """Why it was refused; the value is a metric's label."""

    CONNECTIONS = "connections"
    """More connections than the port takes."""
    ADDRESS = "connections_per_address"
    """More connections than one address may have."""
    HEAD_TIME = "head_time"
    """A request's head took too long."""
    BODY_TIME = "body_time"
    """A request's body or message took too long."""
    UNREAD = "unread"
    """What was sent was not read in time."""
    METADATA = "metadata"
    """The metadata or headers are too large."""
    ENCODING = "encoding"
    """The metadata are no UTF-8."""
    MESSAGE = "message"
    """The message or body is too large."""
    NO_MESSAGE = "no_message"
    """A gRPC call whose message did not come or was not taken: too large, compressed, or given up before."""
    NO_TOKEN = "no_token"  # noqa: S105 - a label
    """A token is needed, and none was given."""
    BAD_TOKEN = "bad_token"  # noqa: S105 - a label
    """The token is not valid."""
    NOT_ALLOWED = "not_allowed"
    """The caller may not call this."""
    RATE = "rate"
    """The client asks too often."""
    PROTOCOL = "protocol"
    """What came is no request of the port's protocol."""
    TLS = "tls"
    """A TLS handshake failed, or took too long; HTTP only."""
    BROKEN = "broken"
    """The call broke while it was answered: its client reset it, say."""
