"""A replica's gRPC server: `grpc.aio` on COS_PORT, with the bounds that gRPC itself can keep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import grpc.aio

from cos_ray.domain.errors import StartFailed
from cos_ray.ingress.grpc_calls import MethodHandlers
from cos_ray.ingress.grpc_log import watch_grpc_log
from cos_ray.ingress.listener_settings import ListenerBounds, ListenerSettings
from cos_ray.ingress.reflection import add_reflection
from cos_ray.ingress.refusals import Refusals
from cos_ray.system.certificates import CertificateBytes, Certificates


def grpc_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """For a gRPC server; asked again with each new connection."""
    told = certificates.bytes_now()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        newest = certificates.bytes_now()
        if newest == told:
            return None
        told = newest
        return _configuration(told)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(told),
        changed,  # type: ignore[arg-type] # None is allowed: nothing has changed
        require_client_authentication=certificates.needs_client_certificates,
    )


def _configuration(content: CertificateBytes) -> grpc.ServerCertificateConfiguration:
    pair = (content.key, content.certificate)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=content.ca)


_METADATA_OF_GRPC = 4 * 1024
"""Bytes of metadata that gRPC itself sends with a call, beside the client's."""

_MESSAGE_ROOM = 64 * 1024
"""Bytes by which a message may be larger than a request, so that it is ours to say which bound it met."""


class GrpcServer:
    """The server; to be made in the loop it works in."""

    def __init__(
        self,
        methods: object,
        services: Sequence[str],
        settings: ListenerSettings,
        refusals: Refusals,
        certificates: Certificates | None = None,
    ) -> None:
        bounds = settings.bounds
        handlers = MethodHandlers(methods, services, bounds.unread_seconds, bounds.body_seconds, refusals)
        add_reflection(handlers, services)
        watch_grpc_log()
        self._settings = settings
        self._certificates = certificates
        self._ended: asyncio.Task[bool] | None = None
        self._is_closing = False
        self._server = grpc.aio.server(handlers=[handlers], options=options_of(bounds))

    async def open(self) -> None:
        """Listen. Raises StartFailed."""
        host, port = self._settings.grpc_host, self._settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._certificates is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, grpc_credentials(self._certificates))
        except RuntimeError as error:
            raise StartFailed(f"gRPC cannot listen on {address} (COS_PORT): {error}") from error
        await self._server.start()
        self._ended = asyncio.create_task(self._server.wait_for_termination())

    def has_failed(self) -> bool:
        """Whether it has ended without being told to."""
        return self._ended is not None and self._ended.done() and not self._is_closing

    async def close(self, grace: float) -> None:
        """Take in no more connections and calls, let those in progress end, and cut them after `grace` s."""
        self._is_closing = True
        await self._server.stop(grace)


def options_of(bounds: ListenerBounds) -> list[tuple[str, int]]:
    """What the bounds are in gRPC's words."""
    metadata = bounds.metadata_bytes + _METADATA_OF_GRPC
    return [
        # Several replicas on one node share the port, also while one takes another's place.
        ("grpc.so_reuseport", 1),
        ("grpc.max_allowed_incoming_connections", bounds.connections),
        ("grpc.max_concurrent_streams", bounds.streams_per_connection),
        ("grpc.server_handshake_timeout_ms", _ms(bounds.header_seconds)),
        ("grpc.max_connection_idle_ms", _ms(bounds.idle_seconds)),
        ("grpc.max_connection_age_ms", _ms(bounds.age_seconds)),
        # A client that has gone without a word is noticed.
        ("grpc.keepalive_time_ms", _ms(bounds.idle_seconds) // 4),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(bounds.ping_seconds)),
        # One bound: between a soft and a hard one gRPC refuses at random.
        ("grpc.max_metadata_size", metadata),
        ("grpc.absolute_max_metadata_size", metadata),
        ("grpc.max_receive_message_length", bounds.request_bytes + _MESSAGE_ROOM),
        ("grpc.max_send_message_length", -1),
        *([] if bounds.compression else [("grpc.compression_enabled_algorithms_bitset", 1)]),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
