"""
Calls between actors on a connection of their own: one wake-up on each side.

A Ray call passes through five threads on its way and back, which is what it costs; fit for starting
and finding actors, not for every command. So an actor opens an endpoint, tells of it by a Ray call, and
who was told sends frames there: a length, then a pickled tuple. Nothing is unpickled before both sides
have shown that they know the endpoint's secret (`handshake`). Answers come as they are ready. A lost
connection ends every call on it in ConnectionLost: what became of them, nobody knows. So a process that ends
says so first: whoever has a connection to it calls no more, and earlier calls are answered.
"""

from __future__ import annotations

import asyncio
import pickle
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from cos_ray.domain.errors import CosError
from cos_ray.system.clock import seconds
from cos_ray.transport.frames import GREET_WITHIN, LEAVE, Failed, Framed
from cos_ray.transport.handshake import ANSWER_OCTETS, NEIGHBOUR, Greeting, NotProven

CONNECT_WITHIN = 2.0
"""Seconds."""


class ConnectionLost(CosError):
    """The connection to another process is gone, or could not be made."""


class ConnectionSilent(ConnectionLost):
    """The connection was given up, as the other process did not answer in time."""


class NotSent(ConnectionLost):
    """The connection was gone before the call was made: nothing of it has left this process."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is, and its secret for this caller; `Dialer` makes it of what an actor tells."""

    host: str
    port: int
    secret: bytes = field(repr=False)
    name: bytes = NEIGHBOUR
    """Under which the endpoint knows the caller."""


class RpcConnection:
    """The calling side of a connection."""

    def __init__(self, line: _Caller) -> None:
        self._line = line

    @classmethod
    async def to(cls, address: Address, context: ssl.SSLContext | None = None) -> RpcConnection:
        """Connect, with TLS or without. Raises ConnectionLost."""
        line = _Caller(Greeting(address.name, address.secret))
        try:
            await asyncio.wait_for(_connected(line, address, context), CONNECT_WITHIN)
            await asyncio.wait_for(line.greeted(), GREET_WITHIN)
        except (OSError, asyncio.TimeoutError, NotProven) as error:
            raise ConnectionLost(f"{address.host}:{address.port}: {error!r}") from error
        finally:
            if not line.is_greeted:
                line.give_up()
        return cls(line)

    @property
    def is_cut(self) -> bool:
        """Whether it is of no use any more."""
        return self._line.is_of_no_use

    @property
    def has_left(self) -> bool:
        """Whether the other side has taken leave: it ends in good order."""
        return self._line.has_left

    def cut(self) -> None:
        """End the connection, and so every call on it."""
        self._line.transport.abort()

    def when_cut(self, tell: Callable[[], None]) -> None:
        """Call this when the connection is of no use any more; at once if it is."""
        if self._line.is_of_no_use:
            tell()
        else:
            self._line.tell_cut = tell

    async def ask(self, method: str, *arguments: object, within: float | None = None) -> Any:
        """
        The answer to a call. Raises ConnectionLost; as NotSent if the call was not made.

        Silence for `within` seconds cuts the connection, also when the caller has given up before: a process
        that hangs is as good as gone. All that is under way then ends in ConnectionSilent.
        """
        return await self._line.ask(method, arguments, within)

    def tell(self, method: str, *arguments: object) -> None:
        """Call without waiting, and without being told if it is in vain."""
        if not self._line.is_cut:
            self._line.send((0, seconds(), method, arguments))


async def _connected(line: _Caller, address: Address, context: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: line, address.host, address.port, ssl=context)


class _Caller(Framed):
    def __init__(self, greeting: Greeting) -> None:
        super().__init__()
        self.is_greeted = False
        """Whether both sides have shown that they know the secret."""
        self._greeting = greeting
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tell_cut: Callable[[], None] | None = None
        self._is_left = False
        self._serial = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._silences: dict[int, asyncio.TimerHandle] = {}
        """When each answer is overdue, also one that nobody waits for any more."""
        self._lost: type[ConnectionLost] = ConnectionLost

    @property
    def is_of_no_use(self) -> bool:
        return self.is_cut or self._is_left

    @property
    def has_left(self) -> bool:
        return self._is_left

    async def greeted(self) -> None:
        """Return when it is so. Raises NotProven and OSError."""
        await self._greeted

    def give_up(self) -> None:
        self._greeted.cancel()
        if (transport := cast(asyncio.Transport | None, self.transport)) is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(self._greeting.opening)

    def data_received(self, data: bytes) -> None:
        if self.is_greeted:
            super().data_received(data)
            return
        self._buffer += data
        if len(self._buffer) < ANSWER_OCTETS or self._greeted.done():
            return
        try:
            self.transport.write(self._greeting.proof_for(self._taken(ANSWER_OCTETS)))
        except NotProven as error:
            self._greeted.set_exception(error)
            return
        self.is_greeted = True
        self._greeted.set_result(None)
        super().data_received(b"")

    async def ask(self, method: str, arguments: tuple[object, ...], within: float | None) -> Any:
        if self.is_of_no_use:
            raise NotSent("it was cut before")
        self._serial = serial = self._serial + 1
        loop = asyncio.get_running_loop()
        answer = self._waiting[serial] = loop.create_future()
        try:
            self.send((serial, seconds(), method, arguments))
            if within is not None:
                self._silences[serial] = loop.call_later(within, self._fall_silent)
            return await answer
        finally:
            self._waiting.pop(serial, None)
            self._close_if_left()

    def _fall_silent(self) -> None:
        self._lost = ConnectionSilent
        self.transport.abort()

    def received(self, frame: bytes) -> None:
        serial, value = pickle.loads(frame)  # noqa: S301 - from whom we called
        if serial == LEAVE:
            self._is_left = True
            self._tell()
            self._close_if_left()
            return
        if (silence := self._silences.pop(serial, None)) is not None:
            silence.cancel()
        answer = self._waiting.get(serial)
        if answer is None or answer.done():
            return
        if isinstance(value, Failed):
            answer.set_exception(ConnectionLost(f"the call failed: {value.reason}"))
        else:
            answer.set_result(value)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self._greeted.done():
            self._greeted.set_exception(error if isinstance(error, OSError) else ConnectionResetError())
        for silence in self._silences.values():
            silence.cancel()
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(self._lost(f"connection lost: {error!r}"))
        self._tell()

    def _close_if_left(self) -> None:
        if self._is_left and not self._waiting:
            self.transport.close()

    def _tell(self) -> None:
        tell, self.tell_cut = self.tell_cut, None
        if tell is not None:
            tell()
