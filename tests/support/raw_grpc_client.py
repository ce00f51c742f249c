"""A gRPC client that sends just what a test says, right or wrong, and tells what came back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events

EMPTY = b"\0\0\0\0\0"
"""An empty message as it is on the wire."""


class RawGrpcClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        # Unchecked: what is sent may be wrong on purpose.
        config = h2.config.H2Configuration(
            header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what the connection has to send."""
        self._writer.write(self.connection.data_to_send())

    def call(
        self,
        path: str | bytes,
        metadata: Sequence[tuple[bytes, bytes]] = (),
        body: bytes | None = EMPTY,
        ends: bool = True,
    ) -> int:
        """Begin a call; its stream. `body`: None sends none; `ends`: nothing more is to come."""
        given = path.encode() if isinstance(path, str) else path
        stream = self.connection.get_next_available_stream_id()
        head = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", given),
            (b":authority", b"a"),
        ]
        head += [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *metadata]
        self.connection.send_headers(stream, head)
        if body is not None:
            self.connection.send_data(stream, body, end_stream=ends)
        self.flush()
        return stream

    async def status(self, stream: int, within: float = 5.0) -> tuple[int, str]:
        """The code and message that the call ends with. Raises TimeoutError, ConnectionError."""
        return await asyncio.wait_for(self._status(stream), within)

    async def _status(self, stream: int) -> tuple[int, str]:
        while octets := await self._reader.read(65536):
            for event in self.connection.receive_data(octets):
                if getattr(event, "stream_id", None) != stream:
                    continue
                headers = dict(getattr(event, "headers", None) or ())
                if b"grpc-status" in headers:
                    return int(headers[b"grpc-status"]), headers.get(b"grpc-message", b"").decode()
            self.flush()
        raise ConnectionError("closed")


@asynccontextmanager
async def raw_grpc_client(port: int) -> AsyncIterator[RawGrpcClient]:
    """Connected, and closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawGrpcClient(reader, writer)
    finally:
        writer.close()
