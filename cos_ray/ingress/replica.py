"""An ingress replica that opens the public ports itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cos_ray.ingress.http_api import build_http_api
from cos_ray.ingress.listener_settings import ListenerSettings
from cos_ray.ingress.listeners import Listeners
from cos_ray.ingress.service import SERVICES, Ingress, IngressDependencies

logger = logging.getLogger(__name__)


class ListeningIngress(Ingress):
    """An `Ingress` with its own servers, open once the constructor is through."""

    async def __init__(self, build: Callable[[], Awaitable[IngressDependencies]]) -> None:  # type: ignore[misc]
        await super().__init__(build)
        assert self._parts.listeners is not None
        self._settings: ListenerSettings = self._parts.listeners
        self._ends_with_service = False
        api = build_http_api(self, self._readiness, self._parts.http, self._parts.any_forms)
        self._listeners = Listeners(self, SERVICES, api, self._settings, self._refusals)
        self._readiness.has_failed = self._listeners.has_failed
        await self._listeners.open()

    async def drain(self) -> None:
        """The whole service is about to stop: end streams, and wait for no client to go elsewhere."""
        self._ends_with_service = True
        await super().drain()

    async def end(self) -> None:
        """
        Say that it is not ready, have clients go elsewhere, let requests in progress end, close everything.

        Called once, and awaited.
        """
        self._readiness.drain()
        if not (self._ends_with_service or await self._parts.ends_with_service()):
            await asyncio.sleep(self._settings.drain_delay)
            leaving = asyncio.ensure_future(self._listeners.leave(self._settings.leave_seconds))
            # Other replicas take their streams in.
            await super().drain()
            await leaving
        await super().drain()
        await self._listeners.close(self._settings.grace)
        await self.close()

    async def check_health(self) -> None:
        """Asked by Serve, which replaces the replica when this raises."""
        if self._listeners.has_failed():
            raise RuntimeError("the gRPC server of this replica has ended by itself")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve is to scale the number of replicas by."""
        return {"in_hand": float(self.in_hand)}
