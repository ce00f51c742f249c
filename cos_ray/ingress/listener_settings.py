"""Where an ingress replica listens, and the bounds that hold before a request is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from cos_ray.system.certificates import TlsFiles


@dataclass(frozen=True, slots=True)
class ListenerBounds:
    """What one replica takes on from clients, for each of its two ports."""

    connections: int = 10_000
    """Connections at once; further ones are closed."""
    connections_per_address: int = 5_000
    """Connections at once from one source address; the newest beyond them are closed."""
    streams_per_connection: int = 1_000
    """gRPC calls at once on one connection; further ones wait at the client."""
    header_seconds: float = 10.0
    """For a connection's first bytes (gRPC: TLS and HTTP/2; HTTP: a request's head)."""
    body_seconds: float = 60.0
    """For the body of an HTTP request, or the message of a gRPC call, after its head."""
    idle_seconds: float = 300.0
    """Without a call or request after which a connection is closed."""
    age_seconds: float = 60.0
    """After which a gRPC client is asked to connect anew, give or take a tenth; its calls go on."""
    ping_seconds: float = 10.0
    """The shortest time between two keepalive pings of a client."""
    request_bytes: int = 32 * 1024 * 1024
    """The largest message taken in, decompressed."""
    metadata_bytes: int = 16 * 1024
    """The largest metadata of a call, counted as HTTP/2 does: names, values and 32 for each entry."""
    compression: bool = False
    """Whether compressed gRPC messages are taken in."""
    unread_seconds: float = 30.0
    """For a client to take the next message of a stream; then its stream is ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """The two ports of each replica."""

    grpc_host: str
    grpc_port: int
    http_host: str
    http_port: int
    tls: TlsFiles | None = None
    """None: plain text."""
    drain_delay: float = 0.0
    """Seconds for which a replica that is to end is not ready, and serves; see COS_INGRESS_DRAIN_DELAY."""
    grace: float = 6.0
    """Seconds that requests in progress have at the end; then they are cut."""
    bounds: ListenerBounds = field(default_factory=ListenerBounds)

    @property
    def leave_seconds(self) -> float:
        """Seconds after which all gRPC clients have been asked to connect anew, and have done so."""
        return self.bounds.age_seconds * 1.1 + 1.0

    @property
    def ends_within(self) -> float:
        """Seconds that a replica takes to end, at the most."""
        return self.drain_delay + self.leave_seconds + self.grace
