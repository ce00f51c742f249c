"""
Calls between actors on a connection of their own: one wake-up on each side.

A Ray call passes through five threads on its way and back, which is what it costs; fit for starting
and finding actors, not for every command. So an actor opens a door, tells of it by a Ray call, and
who was told sends frames there: a length, then a pickled tuple. Nothing is unpickled before the
secret of the door has been shown. Answers come as they are ready. A lost connection ends every call
on it in WireCut: what became of them, nobody knows. So a process that ends takes leave first: whoever
has a wire to it calls no more, and what was called before is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import pickle
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from cos_ray.domain.errors import CosError
from cos_ray.domain.lateness import Lateness
from cos_ray.system_clock import seconds

logger = logging.getLogger(__name__)

CONNECT_WITHIN = 2.0
"""Seconds."""

GONE_WITHIN = 5
"""Seconds."""

_WATCH = {
    "TCP_KEEPIDLE": 2,
    "TCP_KEEPINTVL": 1,
    "TCP_KEEPCNT": GONE_WITHIN - 2,
    "TCP_USER_TIMEOUT": 1000 * GONE_WITHIN,
}
_SIZE = struct.Struct("!I")
_SECRET_OCTETS = 32
_PROTOCOL = 5
_LEAVE = 0
"""In place of a call's number: whoever answers is about to end."""

Methods: TypeAlias = Mapping[str, Callable[..., Awaitable[Any]]]


class WireCut(CosError):
    """The connection to another process is gone, or could not be made."""


class WireSilent(WireCut):
    """The connection was given up, as the other process did not answer in time."""


class NotSent(WireCut):
    """The connection was gone before the call was made: nothing of it has left this process."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a door is, and what opens it; told to those only who may call the actor."""

    host: str
    port: int
    secret: bytes = field(repr=False)


class Door:
    """Answers calls that come by wire, many at a time."""

    def __init__(self, methods: Methods, timed: Methods | None = None) -> None:
        """
        `timed` methods are told first for how many seconds longer than others their call was under way,
        or lay here while this process was frozen.
        """
        self._methods = methods
        self._timed = timed or {}
        self._address: asyncio.Future[Address] | None = None
        self._visitors = _Visitors()

    async def address(self, host: str) -> Address:
        """Where it is; opened there with the first question. Raises OSError."""
        if self._address is None:
            self._address = asyncio.ensure_future(self._open(host))
        return await asyncio.shield(self._address)

    async def close(self, within: float) -> None:
        """Take leave of all callers; return when they have gone, after so many seconds at the latest."""
        await self._visitors.see_off(within)

    async def _open(self, host: str) -> Address:
        secret = secrets.token_bytes(_SECRET_OCTETS)
        loop = asyncio.get_running_loop()

        def visitor() -> _Visitor:
            return _Visitor(self._methods, self._timed, secret, self._visitors)

        server = await loop.create_server(visitor, host, 0)
        return Address(host, server.sockets[0].getsockname()[1], secret)


class Wire:
    """The calling side of a connection."""

    def __init__(self, line: _Caller) -> None:
        self._line = line

    @classmethod
    async def to(cls, address: Address) -> Wire:
        """Connect. Raises WireCut."""
        loop = asyncio.get_running_loop()
        try:
            connecting = loop.create_connection(_Caller, address.host, address.port)
            _, line = await asyncio.wait_for(connecting, CONNECT_WITHIN)
        except (OSError, asyncio.TimeoutError) as error:
            raise WireCut(f"{address.host}:{address.port}: {error!r}") from error
        line.transport.write(address.secret)
        return cls(line)

    @property
    def is_cut(self) -> bool:
        """Whether it is of no use any more."""
        return self._line.is_of_no_use

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
        The answer to a call. Raises WireCut; as NotSent if the call was not made.

        Silence for `within` seconds cuts the wire, also when the caller has given up before: who hangs is as
        good as gone. All that is under way then ends in WireSilent.
        """
        return await self._line.ask(method, arguments, within)

    def tell(self, method: str, *arguments: object) -> None:
        """Call without waiting, and without being told if it is in vain."""
        if not self._line.is_cut:
            self._line.send((0, seconds(), method, arguments))


def _notice_the_lost(connection: socket.socket) -> None:
    """Let a machine that vanished without a word be noticed within about `GONE_WITHIN`."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # By Linux's names; elsewhere the system's own, longer times hold.
    for name, value in _WATCH.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


class _Framed(asyncio.Protocol):
    """Cuts what comes in into frames."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # given on connecting
        self.is_cut = False
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        _notice_the_lost(transport.get_extra_info("socket"))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_cut = True

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _SIZE.size:
            end = _SIZE.size + _SIZE.unpack_from(buffer)[0]
            if len(buffer) < end:
                return
            frame = bytes(buffer[_SIZE.size : end])
            del buffer[:end]
            self.received(frame)

    def received(self, frame: bytes) -> None:
        raise NotImplementedError

    def send(self, content: object) -> None:
        frame = pickle.dumps(content, _PROTOCOL)
        self.transport.write(_SIZE.pack(len(frame)) + frame)


class _Caller(_Framed):
    def __init__(self) -> None:
        super().__init__()
        self.tell_cut: Callable[[], None] | None = None
        self._is_left = False
        self._serial = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._silences: dict[int, asyncio.TimerHandle] = {}
        """When each answer is overdue, also one that nobody waits for any more."""
        self._lost: type[WireCut] = WireCut

    @property
    def is_of_no_use(self) -> bool:
        return self.is_cut or self._is_left

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
        self._lost = WireSilent
        self.transport.abort()

    def received(self, frame: bytes) -> None:
        serial, value = pickle.loads(frame)  # noqa: S301 - from whom we called
        if serial == _LEAVE:
            self._is_left = True
            self._tell()
            self._close_if_left()
            return
        if (silence := self._silences.pop(serial, None)) is not None:
            silence.cancel()
        answer = self._waiting.get(serial)
        if answer is None or answer.done():
            return
        if isinstance(value, _Failed):
            answer.set_exception(WireCut(f"the call failed: {value.reason}"))
        else:
            answer.set_result(value)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
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


@dataclass(frozen=True, slots=True)
class _Failed:
    """Not an answer, but an error that no one foresaw."""

    reason: str


class _Visitors:
    """Everyone who has a wire to a door."""

    def __init__(self) -> None:
        self._all: set[_Visitor] = set()
        self._gone = asyncio.Event()
        self._is_leaving = False

    def came(self, visitor: _Visitor) -> None:
        self._all.add(visitor)
        if self._is_leaving:
            visitor.send((_LEAVE, None))

    def left(self, visitor: _Visitor) -> None:
        self._all.discard(visitor)
        if self._is_leaving and not self._all:
            self._gone.set()

    async def see_off(self, within: float) -> None:
        self._is_leaving = True
        for visitor in self._all:
            visitor.send((_LEAVE, None))
        if self._all:
            # A caller that hangs is not waited for.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._gone.wait(), within)


class _Visitor(_Framed):
    def __init__(self, methods: Methods, timed: Methods, secret: bytes, visitors: _Visitors) -> None:
        super().__init__()
        self._methods, self._timed = methods, timed
        self._secret: bytes | None = secret
        self._visitors = visitors
        self._lateness = Lateness()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._visitors.came(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._visitors.left(self)

    def data_received(self, data: bytes) -> None:
        if self._secret is not None:
            self._buffer += data
            if len(self._buffer) < _SECRET_OCTETS:
                return
            shown = bytes(self._buffer[:_SECRET_OCTETS])
            data = bytes(self._buffer[_SECRET_OCTETS:])
            self._buffer.clear()
            if not hmac.compare_digest(shown, self._secret):
                logger.warning("a stranger called", extra={"peer": self.transport.get_extra_info("peername")})
                self.transport.abort()
                return
            self._secret = None
        super().data_received(data)

    def received(self, frame: bytes) -> None:
        serial, sent_at, method, arguments = pickle.loads(frame)  # noqa: S301 - the sender knows the secret
        late = self._lateness.of(sent_at, seconds())
        if method in self._timed:
            arguments = (late, *arguments)
        task = asyncio.get_running_loop().create_task(self._answer(serial, method, arguments))
        # The loop keeps no strong reference to it.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, serial: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            answers = self._timed.get(method) or self._methods[method]
            value = await answers(*arguments)
        except Exception as error:
            logger.exception("a call ended in an unforeseen error")
            value = _Failed(repr(error))
        if serial and not self.is_cut:
            try:
                self.send((serial, value))
            except Exception as error:
                # Whoever asked waits for an answer, also if it is one that cannot be sent.
                logger.exception("the answer to a call cannot be sent")
                self.send((serial, _Failed(repr(error))))
