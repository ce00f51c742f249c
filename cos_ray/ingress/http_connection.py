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

from cos_ray.domain.refusals import PublicPort, RefusalCause
from cos_ray.ingress.listener_settings import ListenerBounds
from cos_ray.ingress.own_sockets import source_of
from cos_ray.ingress.refusals import Refusals

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


def lack_of_room(bounds: ListenerBounds, connections: int, of_source: int) -> RefusalCause | None:
    """Why there may not be one more where there are so many, and so many from its source; None: it may."""
    if connections >= bounds.connections:
        return RefusalCause.CONNECTIONS
    return RefusalCause.ADDRESS if of_source >= bounds.connections_per_address else None


def bounded_protocol(
    bounds: ListenerBounds, open_by_source: Counter[str], refusals: Refusals
) -> type[H11Protocol]:
    """The class of a server's connections, which keep these bounds together; they count themselves there."""
    attributes = {"bounds": bounds, "refusals": refusals, "open_by_source": open_by_source}
    return type("BoundedConnection", (_Connection,), attributes)


class _Connection(H11Protocol):
    """
    A connection that is closed when the peer is too slow or sends too much.

    The methods without a docstring are uvicorn's and asyncio's own.
    """

    bounds: ClassVar[ListenerBounds]
    refusals: ClassVar[Refusals]
    open_by_source: ClassVar[Counter[str]]
    """How many connections of the server are open, by their source."""

    _source: str | None = None
    _reading: TimerHandle | None = None
    _writing: TimerHandle | None = None
    _looking: TimerHandle | None = None
    _phase: object = None
    """What the peer sends, in h11's words, as far as `_reading` goes by it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        source = source_of(self.client[0]) if self.client else ""
        counts = self.open_by_source
        # It is among the connections already.
        cause = lack_of_room(self.bounds, len(self.connections) - 1, counts[source])
        if cause is not None:
            self._refuse(_TOO_MANY, cause)
            return
        self._source = source
        counts[source] += 1
        self._follow(has_sent=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._stop_waiting_for_reader()
        if self._looking is not None:
            self._looking.cancel()
        if self._source is not None:
            self.open_by_source[self._source] -= 1
            if not self.open_by_source[self._source]:
                del self.open_by_source[self._source]
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
        if is_large:
            self._refuse(_TOO_LARGE, RefusalCause.METADATA)
        else:
            self._refuse(_NO_HTTP, RefusalCause.PROTOCOL)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(self.bounds.unread_seconds, self._give_up_on_reader)

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

    def _give_up_on_reader(self) -> None:
        self._note(RefusalCause.UNREAD)
        self.transport.abort()

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
            self._expect(self.bounds.header_seconds, RefusalCause.HEAD_TIME)
        else:
            seconds = self.bounds.body_seconds if phase is h11.SEND_BODY else None
            self._expect(seconds, RefusalCause.BODY_TIME)

    def _expect(self, seconds: float | None, cause: RefusalCause = RefusalCause.HEAD_TIME) -> None:
        """The rest of something has to come within so many seconds; None: nothing is under way."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if seconds is not None:
            self._reading = self.loop.call_later(seconds, self._refuse, _TOO_SLOW, cause)

    def _note(self, cause: RefusalCause) -> None:
        self.refusals.add(PublicPort.HTTP, cause, self.client[0] if self.client else None)

    def _refuse(self, answer: bytes, cause: RefusalCause) -> None:
        self._note(cause)
        cycle: Any = self.cycle
        is_between = cycle is None or (cycle.response_complete and self.conn.their_state is not h11.SEND_BODY)
        if is_between or not cycle.response_started:
            self.transport.write(answer)
        self.transport.close()
        # A peer that does not read would keep it open.
        self.loop.call_later(_LINGER, self.transport.abort)
