"""A wire between a client and a server that can be cut at a moment of the test's choosing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType

from typing_extensions import Self


class Cut(Enum):
    """Where the next exchange ends."""

    BEFORE_THE_CALL = auto()
    """The server never sees what the client sent."""
    BEFORE_THE_REPLY = auto()
    """The server has done it, and the client does not hear of it."""


class TcpProxy:
    """Forwards connections to one port, until told otherwise."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.cuts: list[Cut] = []
        """What is in store for the next calls, one each."""
        self.is_poisonous: Callable[[bytes], bool] = lambda data: False
        """A call that it says yes to breaks its connection, always."""
        self.refuses = False
        """Whether new connections end at once."""
        self.delay = 0.0
        """Seconds by which everything comes later, each way."""
        self.rate: float | None = None
        """Bytes per second that come from the server on each connection; None: as they come."""
        self.calls_cut = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, type_: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut_all()

    @property
    def _chunk(self) -> int:
        return 2**20 if self.rate is None else 2**16

    def cut_all(self) -> None:
        """Cut every connection there is."""
        for writer in list(self._writers):
            writer.transport.abort()

    def lead_to(self, port: int) -> None:
        """Let new connections end at another port; those there are stay where they are."""
        self._target = port

    def freeze(self) -> None:
        """Let nothing through any more, either way; connections stay, and can still be made."""
        self._flows.clear()

    def thaw(self) -> None:
        """Let all through, what was held back first."""
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        far = socket.socket()
        if self.rate is not None:
            # What is on its way must not fit into the system's buffers.
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        far.setblocking(False)
        await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", self._target))
        far_reader, far_writer = await asyncio.open_connection(sock=far, limit=self._chunk)
        self._writers |= {writer, far_writer}
        armed = asyncio.Event()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait(
                [
                    asyncio.create_task(self._calls(reader, far_writer, armed)),
                    asyncio.create_task(self._replies(far_reader, writer, armed)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        for one in (writer, far_writer):
            one.transport.abort()
        self._writers -= {writer, far_writer}

    async def _calls(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, armed: asyncio.Event
    ) -> None:
        while data := await reader.read(2**20):
            if self.is_poisonous(data):
                self.calls_cut += 1
                return
            # A Bind: a statement that was prepared is called; what comes before is connecting.
            if self.cuts and b"chief_of_state" not in data and (data[:1] == b"B" or b"cos_append" in data):
                self.calls_cut += 1
                if self.cuts.pop(0) is Cut.BEFORE_THE_CALL:
                    return
                armed.set()
            await self._pass_on(data, writer)

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, armed: asyncio.Event
    ) -> None:
        while data := await reader.read(self._chunk):
            if self.rate is not None:
                await asyncio.sleep(len(data) / self.rate)
            if armed.is_set():
                # Until the server says that it is ready again, its transaction may be under way.
                while not data.endswith(b"Z\x00\x00\x00\x05I"):
                    data = await reader.read(2**20)
                return
            await self._pass_on(data, writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._flows.wait()
        writer.write(data)
        await writer.drain()
