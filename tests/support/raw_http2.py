"""An HTTP/2 server that answers each request with just the frames a test gives, right or wrong for gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import h2.config
import h2.connection
import h2.events
import h2.exceptions

Fields: TypeAlias = Sequence[tuple[str, str | bytes]]

OPENING: Fields = ((":status", "200"), ("content-type", "application/grpc"))
"""With which a gRPC server's answer begins."""


def framed(message: bytes) -> bytes:
    """A message as it stands in an answer's data."""
    return b"\0" + len(message).to_bytes(4, "big") + message


@dataclass
class RawAnswer:
    """What is sent: header fields, data, and trailers; each may be left out."""

    headers: Fields = OPENING
    data: bytes = b""
    trailers: Fields | None = (("grpc-status", "0"),)
    resets: bool = False
    """The stream ends by a reset, instead of trailers."""


@dataclass
class RawHttp2Server:
    """Answers every request the same; the answer may be changed between two."""

    answer: RawAnswer = field(default_factory=RawAnswer)
    answers: dict[str, RawAnswer] = field(default_factory=dict)
    """By the last part of the path; other requests get `answer`."""
    requests: list[str] = field(default_factory=list)
    """The paths."""

    @asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
        """On a free port, or on this one."""
        writers: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            try:
                await self._serve(reader, writer)
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writers.discard(writer)
                writer.close()

        server = await asyncio.start_server(serve, host, port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in list(writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Unchecked: what is sent may be wrong on purpose.
        config = h2.config.H2Configuration(
            client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while octets := await reader.read(65536):
            for event in connection.receive_data(octets):
                if isinstance(event, h2.events.RequestReceived):
                    path = dict(event.headers or ())[b":path"].decode()
                    self.requests.append(path)
                    assert event.stream_id is not None
                    self._send(
                        connection, event.stream_id, self.answers.get(path.rpartition("/")[2], self.answer)
                    )
                elif isinstance(event, h2.events.DataReceived) and event.stream_id:
                    connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            writer.write(connection.data_to_send())
            await writer.drain()

    def _send(self, connection: h2.connection.H2Connection, stream: int, answer: RawAnswer) -> None:
        ends = answer.trailers is None and not answer.data and not answer.resets
        connection.send_headers(stream, list(answer.headers), end_stream=ends)
        if answer.data:
            last = answer.trailers is None and not answer.resets
            connection.send_data(stream, answer.data, end_stream=last)
        if answer.resets:
            connection.reset_stream(stream)
        elif answer.trailers is not None:
            connection.send_headers(stream, list(answer.trailers), end_stream=True)
