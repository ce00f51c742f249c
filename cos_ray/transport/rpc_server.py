"""The answering side of connections: who is let in, and what is called there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from cos_ray.domain.lateness import Lateness
from cos_ray.system.clock import seconds
from cos_ray.transport.frames import GREET_WITHIN, LEAVE, Failed, Framed
from cos_ray.transport.handshake import OPENING_OCTETS, PROOF_OCTETS, KnownCallers, NotProven, Reception

logger = logging.getLogger(__name__)

Methods: TypeAlias = Mapping[str, Callable[..., Awaitable[Any]]]


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket on which an endpoint answers, and who may call there."""

    port: int
    callers: KnownCallers


class RpcServer:
    """What all connections to an endpoint share: what it can do, and who is there."""

    def __init__(self, methods: Methods, timed: Methods | None = None) -> None:
        """`timed`: see `Door`."""
        self.methods = methods
        self.timed = timed or {}
        self.visitors = _Visitors()

    async def listen(self, host: str, context: ssl.SSLContext | None = None) -> Listening:
        """Open a port there, with TLS or without. Raises OSError."""
        callers = KnownCallers()
        server = await asyncio.get_running_loop().create_server(
            lambda: _Visitor(self, callers),
            host,
            0,
            ssl=context,
            ssl_handshake_timeout=None if context is None else GREET_WITHIN,
        )
        return Listening(server.sockets[0].getsockname()[1], callers)


class _Visitors:
    """Everyone who has a connection to an endpoint."""

    def __init__(self) -> None:
        self._all: set[_Visitor] = set()
        self._gone = asyncio.Event()
        self._is_leaving = False

    def came(self, visitor: _Visitor) -> None:
        self._all.add(visitor)
        if self._is_leaving:
            visitor.send((LEAVE, None))

    def left(self, visitor: _Visitor) -> None:
        self._all.discard(visitor)
        if self._is_leaving and not self._all:
            self._gone.set()

    async def see_off(self, within: float) -> None:
        self._is_leaving = True
        for visitor in self._all:
            visitor.send((LEAVE, None))
        if self._all:
            # A caller that hangs is not waited for.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._gone.wait(), within)


class _Visitor(Framed):
    def __init__(self, server: RpcServer, callers: KnownCallers) -> None:
        super().__init__()
        self._server, self._callers = server, callers
        self._reception: Reception | None = None
        self._is_known = False
        self._lateness = Lateness()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._greeting = loop.call_later(GREET_WITHIN, self.transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._greeting.cancel()
        self._server.visitors.left(self)

    def data_received(self, data: bytes) -> None:
        if self._is_known:
            super().data_received(data)
            return
        self._buffer += data
        try:
            self._greet()
        except NotProven as error:
            peer = self.transport.get_extra_info("peername")
            logger.warning("a stranger called", extra={"peer": peer, "reason": str(error)})
            self.transport.abort()
            return
        if self._is_known:
            self._greeting.cancel()
            self._server.visitors.came(self)
            super().data_received(b"")

    def _greet(self) -> None:
        """Go on with what has come of the connection's beginning. Raises NotProven."""
        if self._reception is None and len(self._buffer) >= OPENING_OCTETS:
            self._reception = Reception(self._callers, self._taken(OPENING_OCTETS))
            self.transport.write(self._reception.answer)
        if self._reception is not None and len(self._buffer) >= PROOF_OCTETS:
            self._reception.check(self._taken(PROOF_OCTETS))
            self._is_known = True

    def received(self, frame: bytes) -> None:
        serial, sent_at, method, arguments = pickle.loads(frame)  # noqa: S301 - the sender knows the secret
        late = self._lateness.of(sent_at, seconds())
        if method in self._server.timed:
            arguments = (late, *arguments)
        task = asyncio.get_running_loop().create_task(self._answer(serial, method, arguments))
        # The loop keeps no strong reference to it.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, serial: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            answers = self._server.timed.get(method) or self._server.methods[method]
            value = await answers(*arguments)
        except Exception as error:
            logger.exception("a call ended in an unforeseen error")
            value = Failed(repr(error))
        if serial and not self.is_cut:
            try:
                self.send((serial, value))
            except Exception as error:
                # Whoever asked waits for an answer, also if it is one that cannot be sent.
                logger.exception("the answer to a call cannot be sent")
                self.send((serial, Failed(repr(error))))
