"""A replica's HTTP server: uvicorn on COS_HTTP_PORT."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any, cast

import uvicorn

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.ingress.http_connection import bounded_protocol, lack_of_room, largest_head
from cos_ray.ingress.listener_settings import ListenerBounds, ListenerSettings
from cos_ray.ingress.refusals import Refusals
from cos_ray.ingress.tls_acceptor import TlsAcceptor
from cos_ray.system.certificates import Certificates


class HttpServer:
    """The server; to be made in the loop it works in."""

    def __init__(
        self,
        application: Any,
        settings: ListenerSettings,
        refusals: Refusals,
        certificates: Certificates | None = None,
    ) -> None:
        self._settings = settings
        by_source: Counter[str] = Counter()
        config = uvicorn.Config(
            application,
            http=bounded_protocol(settings.bounds, by_source, refusals),
            ws="none",
            h11_max_incomplete_event_size=largest_head(settings.bounds),
            lifespan="off",
            access_log=False,
            log_config=None,
            # What a request ends in is logged by the application.
            log_level="critical",
            timeout_keep_alive=max(1, round(settings.bounds.idle_seconds)),
            server_header=False,
            # Whoever connects is who it is: a gateway's word is read where it is needed.
            proxy_headers=False,
        )
        self._server = (
            uvicorn.Server(config)
            if certificates is None
            else _TlsServer(config, settings.bounds, by_source, refusals, certificates)
        )
        self._serving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen. Raises StartFailed."""
        host, port = self._settings.http_host, self._settings.http_port
        try:
            listening = _listening(host, port)
        except OSError as error:
            reason = f"HTTP cannot listen on {host}:{port} (COS_HTTP_PORT): {error.strerror}"
            raise StartFailed(reason) from error
        self._serving = asyncio.create_task(self._server.serve([listening]))
        while not self._server.started:
            if self._serving.done():
                raise StartFailed(f"HTTP does not start on {host}:{port}") from self._serving.exception()
            await asyncio.sleep(0.01)

    def stop_listening(self) -> None:
        """Take in no more connections."""
        for each in getattr(self._server, "servers", ()):
            each.close()

    async def close(self, grace: float) -> None:
        """Take in nothing more; let requests in progress end, and cut them after `grace` seconds."""
        if self._serving is None:
            return
        self._server.should_exit = True
        _, late = await asyncio.wait([self._serving], timeout=grace)
        if late:
            self._server.force_exit = True
            await asyncio.wait([self._serving], timeout=1.0)


class _TlsServer(uvicorn.Server):
    """One whose clients have to be through with TLS in the time for their first bytes."""

    def __init__(
        self,
        config: uvicorn.Config,
        bounds: ListenerBounds,
        by_source: Counter[str],
        refusals: Refusals,
        certificates: Certificates,
    ) -> None:
        super().__init__(config)
        self._bounds = bounds
        self._by_source = by_source
        self._refusals = refusals
        self._certificates = certificates

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Of uvicorn's own there are none: it would give clients asyncio's 60 s.
        await super().startup(sockets=[])
        context = self._certificates.server_context()
        for each in sockets or ():
            acceptor = TlsAcceptor(
                each,
                self._connection,
                context,
                self._bounds.header_seconds,
                self._has_room,
                lambda source: self._refusals.add(PublicPort.HTTP, RefusalCause.TLS, source),
            )
            # It is closed in the same way, and nothing else is asked of it.
            self.servers.append(cast(asyncio.Server, acceptor))

    def _connection(self) -> asyncio.Protocol:
        state, lifespan = self.server_state, self.lifespan.state
        protocol: type[Any] = self.config.http_protocol_class
        return cast(asyncio.Protocol, protocol(config=self.config, server_state=state, app_state=lifespan))

    def _has_room(self, source: str, greeting: int, of_source: int) -> bool:
        there = len(self.server_state.connections) + greeting
        cause = lack_of_room(self._bounds, there, self._by_source[source] + of_source)
        if cause is not None:
            self._refusals.add(PublicPort.HTTP, cause, source)
        return cause is None


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Several replicas on one node share the port, also while one takes another's place.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening
