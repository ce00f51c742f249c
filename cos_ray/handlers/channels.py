"""gRPC channels to handlers: where to, how large a message may be, how to come back."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import grpc.aio

MESSAGE_LIMIT = 256 * 1024 * 1024
"""The largest message to or from a handler, in bytes."""


@dataclass(frozen=True, slots=True)
class GrpcTarget:
    """Where a handler listens."""

    host: str
    port: int
    use_tls: bool = False
    """TLS with the system's certificate authorities."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def open_channel(target: GrpcTarget) -> grpc.aio.Channel:
    """A channel to the target; belongs to the event loop it is opened in. Connects on first use."""
    options = [
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        # A handler that comes back is found again within seconds, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Each process its own connection: a shared one would tie the fate of unrelated channels.
        ("grpc.use_local_subchannel_pool", 1),
        # The path must not lead through a proxy that the environment names for web traffic.
        ("grpc.enable_http_proxy", 0),
    ]
    if target.use_tls:
        return grpc.aio.secure_channel(str(target), grpc.ssl_channel_credentials(), options=options)
    return grpc.aio.insecure_channel(str(target), options=options)
