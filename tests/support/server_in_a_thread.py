"""A gRPC server in a thread of its own, for tests of what calls it and blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import grpc.aio
from typing_extensions import Self

Add: TypeAlias = Callable[[Any, grpc.aio.Server], None]
"""What generated code has to add a service to a server."""


class ServerInAThread:
    """Serves from the beginning of a with block to its end; base of those that say what."""

    def __init__(self, *services: Add) -> None:
        self.port = 0
        self._services: Sequence[Add] = services
        self._listening: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def methods(self) -> AbstractAsyncContextManager[Any]:
        """What answers the calls, for as long as it is served."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._listening.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with self.methods() as methods:
            server = grpc.aio.server()
            for add in self._services:
                add(methods, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            self._listening.set_result(port)
            await self._over.wait()
            await server.stop(0)
