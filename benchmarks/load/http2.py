"""
A small HTTP/2 client (plain text, prior knowledge), made to cost little for each request.

Request headers are encoded once, literally. The server is told to keep no table for its own
(HEADER_TABLE_SIZE 0), so that equal blocks of reply headers mean the same and are decoded once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, cast

import hpack

from benchmarks.load.frames import (
    HEADER_SIZE,
    INITIAL_FRAME,
    INITIAL_WINDOW,
    LARGEST_WINDOW,
    PREFACE,
    Flag,
    Kind,
    Setting,
    frame,
    read_number,
    read_settings,
    settings,
    unpadded,
    window_update,
)

_REFUSED_STREAM = 7
_TOP_UP = 2**30
_STATUS_200 = 0x88
"""A block that begins with this octet (entry 8 of HPACK's static table) says `:status: 200`."""
_OPENING = settings(
    {
        Setting.HEADER_TABLE_SIZE: 0,
        Setting.ENABLE_PUSH: 0,
        Setting.INITIAL_WINDOW_SIZE: LARGEST_WINDOW,
    }
) + window_update(0, LARGEST_WINDOW - INITIAL_WINDOW)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it goes over the wire."""

    headers: bytes
    """An encoded block."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that is not a success, or none at all."""

    reason: str


Outcome: TypeAlias = bytes | Failure
OnReply: TypeAlias = Callable[[Outcome], None]


class _Stream:
    __slots__ = ("body", "failure", "on_reply", "request", "sent", "window")

    def __init__(self, request: Request, on_reply: OnReply, window: int) -> None:
        self.request = request
        self.on_reply = on_reply
        self.sent = 0
        self.window = window
        self.body = b""
        self.failure: str | None = None


class Connection(asyncio.Protocol):
    """One connection; `request` may be called when `ready` is done."""

    def __init__(self, *, is_grpc: bool) -> None:
        """`is_grpc`: success needs a trailing `grpc-status: 0`."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.limit = 100
        """How many streams the server takes at once; further requests wait for one to end."""
        self._is_grpc = is_grpc
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._streams: dict[int, _Stream] = {}
        self._blocked: dict[int, _Stream] = {}
        """Streams with something to send and no room for it."""
        self._waiting: deque[tuple[Request, OnReply]] = deque()
        self._next_id = 1
        self._out: list[bytes] = []
        self._is_reading = False
        self._window = INITIAL_WINDOW
        self._stream_window = INITIAL_WINDOW
        self._largest_frame = INITIAL_FRAME
        self._consumed = 0
        self._partial: tuple[int, int, bytes] | None = None

    def request(self, request: Request, on_reply: OnReply) -> None:
        """Send it; `on_reply` is called once, from this connection's reading."""
        if len(self._streams) >= self.limit:
            self._waiting.append((request, on_reply))
            return
        id_ = self._next_id
        self._next_id += 2
        self._streams[id_] = stream = _Stream(request, on_reply, self._stream_window)
        last = Flag.END_HEADERS if request.body else Flag.END_HEADERS | Flag.END_STREAM
        self._out.append(frame(Kind.HEADERS, last, id_, request.headers))
        if request.body:
            self._send_body(id_, stream)
        if not self._is_reading:
            self._flush()

    @property
    def under_way(self) -> int:
        """How many requests wait for their replies."""
        return len(self._streams) + len(self._waiting)

    def close(self) -> None:
        """Close it; requests under way are not answered any more."""
        self._streams.clear()
        self._waiting.clear()
        if self._transport is not None:
            self._transport.close()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(PREFACE + _OPENING)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way."""
        streams, self._streams = self._streams, {}
        waiting = [on_reply for _, on_reply in self._waiting]
        self._waiting.clear()
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("closed before it was ready"))
        for on_reply in [*(stream.on_reply for stream in streams.values()), *waiting]:
            on_reply(Failure(f"connection lost: {error or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        """Read all whole frames, and answer them together."""
        if self._received:
            data = self._received + data
        at, end = 0, len(data)
        self._is_reading = True
        while end - at >= HEADER_SIZE:
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            after = at + HEADER_SIZE + size
            if after > end:
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & LARGEST_WINDOW
            self._read(data[at + 3], data[at + 4], stream, data[at + HEADER_SIZE : after])
            at = after
        self._is_reading = False
        self._received = data[at:]
        if self._out:
            self._flush()

    # frames

    def _read(self, kind: int, flags: int, id_: int, payload: bytes) -> None:
        # The two that come with every reply, first.
        if kind == Kind.DATA:
            self._read_data(flags, id_, payload)
        elif kind == Kind.HEADERS:
            self._read_headers(flags, id_, unpadded(flags, payload))
        elif kind in (Kind.WINDOW_UPDATE, Kind.SETTINGS, Kind.PING):
            self._read_control(kind, flags, id_, payload)
        elif kind == Kind.CONTINUATION:
            assert self._partial is not None
            first_flags, first_id, begun = self._partial
            self._read_headers(first_flags | flags & Flag.END_HEADERS, first_id, begun + payload)
        elif kind == Kind.RST_STREAM:
            self._read_reset(id_, read_number(payload))
        elif kind == Kind.GOAWAY:
            last = read_number(payload)
            for refused in [id_ for id_ in self._streams if id_ > last]:
                self._finish(refused, f"going away: {payload[8:].decode(errors='replace')}")

    def _read_reset(self, id_: int, code: int) -> None:
        stream = self._streams.get(id_)
        if stream is not None and code == _REFUSED_STREAM:
            # Not begun: the server counts a stream a little longer than its client does.
            del self._streams[id_]
            asyncio.get_running_loop().call_later(0.001, self.request, stream.request, stream.on_reply)
        else:
            self._finish(id_, f"stream reset: {code}")

    def _read_control(self, kind: int, flags: int, id_: int, payload: bytes) -> None:
        if kind == Kind.WINDOW_UPDATE:
            self._widen(id_, read_number(payload))
        elif not flags & Flag.ACK:
            if kind == Kind.SETTINGS:
                self._read_settings(payload)
            else:
                self._out.append(frame(Kind.PING, Flag.ACK, 0, payload))

    def _read_data(self, flags: int, id_: int, payload: bytes) -> None:
        self._consumed += len(payload)
        if self._consumed > _TOP_UP:
            self._out.append(window_update(0, self._consumed))
            self._consumed = 0
        stream = self._streams.get(id_)
        if stream is not None:
            stream.body += unpadded(flags & Flag.PADDED, payload)
            if flags & Flag.END_STREAM:
                # gRPC ends with trailers, not like this.
                self._finish(id_, stream.failure or ("no grpc-status" if self._is_grpc else None))

    def _read_headers(self, flags: int, id_: int, block: bytes) -> None:
        if not flags & Flag.END_HEADERS:
            self._partial = (flags, id_, block)
            return
        self._partial = None
        stream = self._streams.get(id_)
        if stream is None:
            return
        if flags & Flag.END_STREAM:
            self._finish(id_, stream.failure or _wrong_at_the_end(block, self._is_grpc))
        elif not block or block[0] != _STATUS_200:
            stream.failure = _wrong_status(block)

    def _read_settings(self, payload: bytes) -> None:
        values = read_settings(payload)
        self.limit = values.get(Setting.MAX_CONCURRENT_STREAMS, self.limit if self.ready.done() else 2**31)
        self._largest_frame = values.get(Setting.MAX_FRAME_SIZE, self._largest_frame)
        if (window := values.get(Setting.INITIAL_WINDOW_SIZE)) is not None:
            for stream in self._streams.values():
                stream.window += window - self._stream_window
            self._stream_window = window
        self._out.append(frame(Kind.SETTINGS, Flag.ACK, 0))
        self._send_blocked()
        if not self.ready.done():
            self.ready.set_result(None)

    # sending

    def _send_body(self, id_: int, stream: _Stream) -> None:
        body = stream.request.body
        while stream.sent < len(body):
            room = min(self._window, stream.window, self._largest_frame, len(body) - stream.sent)
            if room <= 0:
                self._blocked[id_] = stream
                return
            part = body if room == len(body) else body[stream.sent : stream.sent + room]
            stream.sent += room
            stream.window -= room
            self._window -= room
            last = Flag.END_STREAM if stream.sent == len(body) else 0
            self._out.append(frame(Kind.DATA, last, id_, part))

    def _widen(self, id_: int, increment: int) -> None:
        if id_ == 0:
            self._window += increment
        elif (stream := self._streams.get(id_)) is not None:
            stream.window += increment
        if self._blocked:
            self._send_blocked()

    def _send_blocked(self) -> None:
        blocked, self._blocked = self._blocked, {}
        for id_, stream in blocked.items():
            if id_ in self._streams:
                self._send_body(id_, stream)

    def _finish(self, id_: int, failure: str | None) -> None:
        stream = self._streams.pop(id_, None)
        if stream is not None:
            if self._waiting:
                self.request(*self._waiting.popleft())
            stream.on_reply(stream.body if failure is None else Failure(failure))

    def _flush(self) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(self._out))
        self._out.clear()


async def connect(host: str, port: int, *, is_grpc: bool) -> Connection:
    """A connection on which requests can be sent. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(is_grpc=is_grpc), host, port)
    await asyncio.wait_for(connection.ready, 30)
    return connection


@lru_cache(maxsize=4096)
def _decoded(block: bytes) -> dict[str, str]:
    # Nothing is carried from block to block, and so each may have a decoder of its own.
    return {str(name): str(value) for name, value in hpack.Decoder().decode(block)}


def _wrong_status(block: bytes) -> str | None:
    status = _decoded(block).get(":status")
    return None if status == "200" else f"HTTP {status}"


def _wrong_at_the_end(block: bytes, is_grpc: bool) -> str | None:
    """What a last block of headers says is wrong; for HTTP it may be the only one."""
    headers = _decoded(block)
    if ":status" in headers and headers[":status"] != "200":
        return f"HTTP {headers[':status']}"
    if is_grpc and headers.get("grpc-status") != "0":
        return f"grpc-status {headers.get('grpc-status')}: {headers.get('grpc-message', '')}"
    return None
