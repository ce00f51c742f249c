"""
One HTTP connection: uvicorn's protocol over h11, with bounds on how many there are, how slow and how large.

Not over httptools, which is quicker: it takes trailers for headers, and the body of a request that asks for
an upgrade for another request.
"""

from __future__ import annotations

import asyncio
import json
import select
from asyncio.events import TimerHandle
from collections import Counter
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from cos_ray.ingress.listener_settings import ListenerBounds

_LINE_AND_OWN = 16 * 1024
"""Bytes that a request's head may have beside what counts as metadata: its line, and what browsers send."""

_LINGER = 1.0
"""Seconds that a peer has to read why its connection is closed."""

_LOOK_EVERY = 0.5
"""Seconds between two looks whether a peer that is not read from has gone."""

_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


def _refusal(status: str, text: str) -> bytes:
    body = json.dumps({"error": text})
    lines = (f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}")
    return "\r\n".join([*lines, "connection: close", "", body]).encode()


_TOO_SLOW = _refusal("408 Request Timeout", "DEADLINE_EXCEEDED: the request was too slow")
_TOO_LARGE = _refusal("431 Request Header Fields Too Large", "RESOURCE_EXHAUSTED: the headers are too large")
_TOO_MANY = _refusal("503 Service Unavailable", "RESOURCE_EXHAUSTED: too many connections")
_NO_HTTP = _refusal("400 Bad Request", "INVALID_ARGUMENT: this is no HTTP/1.1")


def largest_head(bounds: ListenerBounds) -> int:
    """Bytes of the largest head of a request."""
    return bounds.metadata_bytes + _LINE_AND_OWN


def has_room(bounds: ListenerBounds, connections: int, of_address: int) -> bool:
    """Whether there may be one more where there are so many, and so many of the address it comes from."""
    return connections < bounds.connections and of_address < bounds.connections_per_address


def bounded_protocol(bounds: ListenerBounds, open_by_address: Counter[str]) -> type[H11Protocol]:
    """The class of a server's connections, which keep these bounds together; they count themselves there."""
    attributes = {"bounds": bounds, "open_by_address": open_by_address}
    return type("BoundedConnection", (_Connection,), attributes)


class _Connection(H11Protocol):
    """
    A connection that is closed when the peer is too slow or sends too much.

    The methods without a docstring are uvicorn's and asyncio's own.
    """

    bounds: ClassVar[ListenerBounds]
    open_by_address: ClassVar[Counter[str]]
    """How many connections of the server are open, by their source."""

    _address: str | None = None
    _reading: TimerHandle | None = None
    _writing: TimerHandle | None = None
    _looking: TimerHandle | None = None
    _phase: object = None
    """What the peer sends, in h11's words, as far as `_reading` goes by it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        bounds, counts = self.bounds, self.open_by_address
        # It is among the connections already.
        if not has_room(bounds, len(self.connections) - 1, counts[address]):
            self._refuse(_TOO_MANY)
            return
        self._address = address
        counts[address] += 1
        self._follow(has_sent=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._stop_waiting_for_reader()
        if self._looking is not None:
            self._looking.cancel()
        if self._address is not None:
            self.open_by_address[self._address] -= 1
            if not self.open_by_address[self._address]:
                del self.open_by_address[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._follow(has_sent=True)
            self._look_out()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look_out()
        self._follow(has_sent=bool(self.conn.trailing_data[0]))

    def send_400_response(self, msg: str) -> None:
        # h11 tells a head that is too large by giving up before its end.
        is_large = len(self.conn.trailing_data[0]) > largest_head(self.bounds)
        self._refuse(_TOO_LARGE if is_large else _NO_HTTP)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(self.bounds.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_waiting_for_reader()
        super().resume_writing()

    def _look_out(self) -> None:
        """
        Look now and then whether the peer has gone, for as long as nothing is read from it.

        Requests that wait behind one that is being answered stop the reading, and who does not read is told
        nothing: the command of a client that has gone would run to its end.
        """
        if self._looking is None and self.flow.read_paused and not self.transport.is_closing():
            self._looking = self.loop.call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._looking = None
        if self.flow.read_paused and not self.transport.is_closing():
            poll = select.poll()
            poll.register(self.transport.get_extra_info("socket").fileno(), _GONE)
            if poll.poll(0):
                self.transport.abort()
        self._look_out()

    def _stop_waiting_for_reader(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _follow(self, has_sent: bool) -> None:
        """
        Expect what comes next: the rest of a head or of a body, in the time for it from its beginning.

        `has_sent`: whether anything of it may be there. Until then uvicorn's keep-alive counts.
        """
        if self.transport.is_closing():
            return
        phase = self.conn.their_state if has_sent else None
        if phase is self._phase:
            return
        self._phase = phase
        if phase is h11.IDLE:
            self._expect(self.bounds.header_seconds)
        else:
            self._expect(self.bounds.body_seconds if phase is h11.SEND_BODY else None)

    def _expect(self, seconds: float | None) -> None:
        """The rest of something has to come within so many seconds; None: nothing is under way."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if seconds is not None:
            self._reading = self.loop.call_later(seconds, self._refuse, _TOO_SLOW)

    def _refuse(self, answer: bytes) -> None:
        cycle: Any = self.cycle
        is_between = cycle is None or (cycle.response_complete and self.conn.their_state is not h11.SEND_BODY)
        if is_between or not cycle.response_started:
            self.transport.write(answer)
        self.transport.close()
        # A peer that does not read would keep it open.
        self.loop.call_later(_LINGER, self.transport.abort)
