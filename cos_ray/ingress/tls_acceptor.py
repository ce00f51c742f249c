"""
Takes in TLS connections for a server that would give a client asyncio's 60 s for the handshake.

Connections within their handshake count among those that there may be: the server hears of them only later.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial

from cos_ray.ingress.own_sockets import source_of

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that may wait to be taken in."""

WITHOUT_FILES = 0.5
"""Seconds to wait where this process has as many open files as it may."""


class TlsAcceptor:
    """What listens on one socket; closed like an `asyncio.Server`."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        handshake_seconds: float,
        has_room: Callable[[str, int, int], bool],
        note_failure: Callable[[str], None],
    ) -> None:
        """
        Listen from now on; `protocol` is made for each connection whose handshake is through.

        `has_room` says whether one more from this source may be taken in, where so many are within their
        handshake, and so many of them from this source. `note_failure` is told where a handshake that
        failed, or took too long, came from.
        """
        listening.setblocking(False)
        listening.listen(BACKLOG)
        self._listening = listening
        self._protocol = protocol
        self._context = context
        self._handshake_seconds = handshake_seconds
        self._has_room = has_room
        self._note_failure = note_failure
        self._greeting: set[asyncio.Task[None]] = set()
        self._greeting_by_source: Counter[str] = Counter()
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Take in no more; those that are there stay."""
        self._accepting.cancel()
        self._listening.close()

    async def wait_closed(self) -> None:
        """End the handshakes that are under way."""
        for each in self._greeting:
            each.cancel()
        await asyncio.gather(self._accepting, *self._greeting, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._listening)
            except ConnectionError:
                continue  # gone before it was taken in
            except OSError as error:
                logger.error("HTTP takes in no connection", extra={"reason": str(error)})
                await asyncio.sleep(WITHOUT_FILES)
                continue
            source = source_of(peer[0])
            if not self._has_room(source, len(self._greeting), self._greeting_by_source[source]):
                connection.close()
                continue
            self._greeting_by_source[source] += 1
            task = loop.create_task(self._greet(connection, source))
            self._greeting.add(task)
            task.add_done_callback(partial(self._greeted, source))

    async def _greet(self, connection: socket.socket, source: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds,
            )
        except (OSError, asyncio.TimeoutError):
            self._note_failure(source)

    def _greeted(self, source: str, task: asyncio.Task[None]) -> None:
        self._greeting.discard(task)
        self._greeting_by_source[source] -= 1
        if not self._greeting_by_source[source]:
            del self._greeting_by_source[source]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a TLS connection failed in an unforeseen way", exc_info=error)
