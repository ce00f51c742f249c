"""The public ports of one ingress replica, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cos_ray.domain.refusals import PublicPort
from cos_ray.ingress.connection_watch import ConnectionWatch
from cos_ray.ingress.grpc_server import GrpcServer
from cos_ray.ingress.http_server import HttpServer
from cos_ray.ingress.listener_settings import ListenerBounds, ListenerSettings
from cos_ray.ingress.own_sockets import open_connections, stop_listening
from cos_ray.ingress.refusals import Refusals
from cos_ray.system.certificates import Certificates

logger = logging.getLogger(__name__)


_OTHER_FILES = 512
"""Open files that the process needs beside its clients' connections."""

LOOK_EVERY = 0.2
"""Seconds between two looks whether clients have left."""


class Listeners:
    """A gRPC and an HTTP server; to be made in the loop they work in."""

    def __init__(
        self,
        methods: object,
        services: Sequence[str],
        application: Any,
        settings: ListenerSettings,
        refusals: Refusals,
    ) -> None:
        """`methods` has the gRPC methods of `services`, `application` (ASGI) answers HTTP."""
        settings = replace(settings, bounds=fitting(settings.bounds, _allow_many_files()))
        self._settings = settings
        certificates = None if settings.tls is None else Certificates(settings.tls)
        self._grpc = GrpcServer(methods, services, settings, refusals, certificates)
        self._http = HttpServer(application, settings, refusals, certificates)
        # The HTTP server looks after its own.
        self._watch = ConnectionWatch({settings.grpc_port: PublicPort.GRPC}, settings.bounds, refusals)
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen on both. Raises StartFailed."""
        await self._http.open()
        await self._grpc.open()
        self._watching = asyncio.create_task(self._watch.run())

    def has_failed(self) -> bool:
        """Whether one of them has ended by itself."""
        return self._grpc.has_failed()

    async def leave(self, within: float) -> None:
        """
        Take in no more connections; return when none is left, or after so many seconds.

        Requests on the connections that there are go on being served. HTTP clients leave with their next
        answer, gRPC clients when their connection is old enough.
        """
        self._http.stop_listening()
        stop_listening(self._settings.grpc_port)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            # Which connections there are, nobody tells of their own accord.
            if not await asyncio.to_thread(self._has_connections):
                return
            await asyncio.sleep(LOOK_EVERY)

    def _has_connections(self) -> bool:
        return any(map(open_connections, (self._settings.grpc_port, self._settings.http_port)))

    async def close(self, grace: float) -> None:
        """Take in nothing more; let what is in progress end, and cut it after `grace` seconds."""
        await asyncio.gather(self._grpc.close(grace), self._http.close(grace))
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)


def fitting(bounds: ListenerBounds, files: int | None) -> ListenerBounds:
    """
    The bounds, with no more connections than there may be files (None: any number) for them.

    A process without a free file cannot even close a connection that it did not want, or reach its handlers.
    """
    if files is None:
        return bounds
    most = max(1, (files - min(_OTHER_FILES, files // 2)) // 2)
    if bounds.connections <= most:
        return bounds
    logger.warning(
        "each public port takes fewer connections than COS_MAX_CONNECTIONS: raise the limit of open files",
        extra={"connections": most, "wanted": bounds.connections, "open_files": files},
    )
    return replace(bounds, connections=most)


def _allow_many_files() -> int | None:
    """As many open files, and so connections, as this process may have: so many; None: any number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if allowed == resource.RLIM_INFINITY else allowed
