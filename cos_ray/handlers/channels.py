"""
gRPC channels to handlers: how they are secured, how large a message may be, how to come back.

A channel that lost its connection tries again after 0.1 s, then after ever longer waits up to
2 s, each shifted by gRPC at random: thousands of processes do not come back in the same moment.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc
import grpc.aio

from cos_ray.handlers.endpoints import GrpcEndpoint, Tls

GONE_WITHIN_MS = 5_000
"""Milliseconds after which a connection on which nothing that was sent is confirmed is given up."""

_USUAL_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def open_channels(target: GrpcEndpoint) -> list[grpc.aio.Channel]:
    """
    The target's pool of channels, which belong to the event loop they are opened in.

    They connect on first use. Raises OSError when a file of the target's TLS cannot be read.
    """
    if target.tls is None:
        return [
            grpc.aio.insecure_channel(str(target), options=_options(target)) for _ in range(target.pool_size)
        ]
    credentials = _credentials(target.tls)
    return [
        grpc.aio.secure_channel(str(target), credentials, options=_options(target))
        for _ in range(target.pool_size)
    ]


def _options(target: GrpcEndpoint) -> list[tuple[str, int | str]]:
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", -1 if target.sends_anything else target.message_limit),
        ("grpc.max_receive_message_length", target.message_limit),
        # A handler that comes back is found again within seconds, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # The time for one try to connect; gRPC's own twenty seconds go by where packets are lost.
        ("grpc.min_reconnect_backoff_ms", 3_000),
        # On another address, too: gRPC asks for the addresses of a name every thirty seconds at most.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # What a handler says in trailers is kept to our own bounds, not refused for gRPC's 8 KiB.
        ("grpc.max_metadata_size", 64 * 1024),
        ("grpc.absolute_max_metadata_size", 128 * 1024),
        # Each channel its own connection: a shared one would tie the fate of unrelated channels.
        ("grpc.use_local_subchannel_pool", 1),
        # The path must not lead through a proxy that the environment names for web traffic.
        ("grpc.enable_http_proxy", 0),
    ]
    if target.tls is not None and target.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", target.tls.server_name))
    if (keepalive := target.keepalive) is None:
        options += [
            # Never a ping, which many servers refuse. But where there is a keepalive time, gRPC has the
            # system end a connection on which nothing is confirmed for so long (TCP_USER_TIMEOUT). A machine
            # that vanished would else go unnoticed for a quarter of an hour.
            ("grpc.keepalive_time_ms", 2**31 - 2),
            ("grpc.keepalive_timeout_ms", GONE_WITHIN_MS),
        ]
    else:
        options += [
            ("grpc.keepalive_time_ms", keepalive.time_ms),
            ("grpc.keepalive_timeout_ms", keepalive.timeout_ms),
            ("grpc.keepalive_permit_without_calls", int(keepalive.without_calls)),
            # gRPC would otherwise fall silent after two pings without a call in between.
            ("grpc.http2.max_pings_without_data", 0),
        ]
    return options


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=Path(tls.ca_file).read_bytes() if tls.ca_file else _system_roots(),
        private_key=Path(tls.key_file).read_bytes() if tls.key_file else None,
        certificate_chain=Path(tls.cert_file).read_bytes() if tls.cert_file else None,
    )


def _system_roots() -> bytes | None:
    """The system's certificate authorities; None, which means gRPC's own, where there are none."""
    # Left alone, gRPC takes the list it was built with and knows nothing of an operator's own.
    for file in (ssl.get_default_verify_paths().cafile or "", *_USUAL_BUNDLES):
        if Path(file).is_file():
            return Path(file).read_bytes()
    return None
