"""The frames of a connection: a length, then a pickled tuple; and the connection they travel on."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from dataclasses import dataclass
from typing import cast

GREET_WITHIN = 5.0
"""Seconds in which each side has to show that it knows the secret, and to begin with TLS where it is used."""

GONE_WITHIN = 5
"""Seconds."""

LEAVE = 0
"""In place of a call's number: whoever answers is about to end."""

_WATCH = {
    "TCP_KEEPIDLE": 2,
    "TCP_KEEPINTVL": 1,
    "TCP_KEEPCNT": GONE_WITHIN - 2,
    "TCP_USER_TIMEOUT": 1000 * GONE_WITHIN,
}
_SIZE = struct.Struct("!I")
_PROTOCOL = 5


@dataclass(frozen=True, slots=True)
class Failed:
    """Not an answer, but an error that no one foresaw."""

    reason: str


def _notice_the_lost(connection: socket.socket) -> None:
    """Let a machine that vanished without a word be noticed within about `GONE_WITHIN`."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # By Linux's names; elsewhere the system's own, longer times hold.
    for name, value in _WATCH.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


class Framed(asyncio.Protocol):
    """Cuts what comes in into frames."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # given on connecting
        self.is_cut = False
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # uvloop's are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        _notice_the_lost(transport.get_extra_info("socket"))

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.is_cut = True

    def data_received(self, data: bytes) -> None:
        """Hand on what is whole by now."""
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
        """What a whole frame holds, pickled."""
        raise NotImplementedError

    def _taken(self, octets: int) -> bytes:
        """What came first, out of the buffer."""
        taken = bytes(self._buffer[:octets])
        del self._buffer[:octets]
        return taken

    def send(self, content: object) -> None:
        """Send a frame; whatever error pickling ends in is the caller's."""
        frame = pickle.dumps(content, _PROTOCOL)
        self.transport.write(_SIZE.pack(len(frame)) + frame)
