"""HttpReadHandler against real HTTP servers, well-behaved and not."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any as Untyped
from urllib.parse import unquote

import pytest
from google.protobuf.any_pb2 import Any

from cos_ray.domain.errors import Code, DeliveryFailed
from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, Header, Meta, Packed
from cos_ray.handlers.endpoints import HttpEndpoint
from cos_ray.handlers.http_read import HttpReadHandler

EVENT = Any(type_url="type.example/Deposited", value=b"\x01").SerializeToString()
STATE = Any(type_url="type.example/Account", value=b"\x02").SerializeToString()


class Server:
    """Answers every request alike, and notes what it was sent."""

    def __init__(self, status: int = 200, body: bytes = b'{"successful": true}', delay: float = 0) -> None:
        self.status, self.body, self.delay = status, body, delay
        self.requests: list[tuple[str, dict[str, str], dict[str, Untyped]]] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                headers = {name.lower(): value for name, value in headers.items()}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.requests.append((head[0].split(" ")[1], headers, body))
                await asyncio.sleep(self.delay)
                writer.write(
                    f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(self.body)}\r\n\r\n".encode()
                    + self.body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def envelope(entity_id: str = "account-1") -> EventEnvelope:
    date = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    meta = Meta(EntityId(entity_id), Revision(7), date, (Header("x-who", "me"),))
    return EventEnvelope(Packed(EVENT), Packed(STATE), meta, Revision(7))


async def deliver(server: Server, entity_id: str = "account-1", timeout: float = 10) -> None:
    async with server.listening() as port:
        handler = HttpReadHandler(HttpEndpoint("127.0.0.1", port), timedelta(seconds=timeout))
        try:
            await handler.handle(ReadSideId("balances"), Shard(3), envelope(entity_id))
        finally:
            await handler.close()


async def failure(server: Server, timeout: float = 10) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await deliver(server, timeout=timeout)
    return caught.value


async def test_a_confirmed_event_arrived_whole() -> None:
    server = Server()
    await deliver(server)
    ((path, headers, body),) = server.requests
    assert path == "/v1/readside/handle"
    assert (headers["x-cos-entity-id"], headers["x-cos-event-tag"]) == ("account-1", "3")
    assert body == {
        "event": base64.b64encode(EVENT).decode(),
        "state": base64.b64encode(STATE).decode(),
        "meta": {
            "entity_id": "account-1",
            "revision_number": 7,
            "revision_date": "2026-01-02T03:04:05Z",
            "headers": [{"key": "x-who", "string_value": "me"}],
        },
        "read_side_id": "balances",
    }


@pytest.mark.parametrize(
    "body", [b'{"successful": false}', b"{}", b'{"successful": "true"}', b'{"successful": 1}']
)
async def test_only_true_confirms(body: bytes) -> None:
    error = await failure(Server(body=body))
    assert (error.reason, error.code) == ("the handler did not answer successful = true", None)


@pytest.mark.parametrize("body", [b"", b"[]", b"true", b"<html>"])
async def test_a_reply_that_cannot_be_read_is_a_failure(body: bytes) -> None:
    assert (await failure(Server(body=body))).code is Code.INTERNAL


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (201, Code.INTERNAL),
        (204, Code.INTERNAL),
        (404, Code.NOT_FOUND),
        (500, Code.INTERNAL),
        (503, Code.UNAVAILABLE),
    ],
)
async def test_any_status_but_200_is_a_failure_that_says_which(status: int, code: Code) -> None:
    error = await failure(Server(status=status))
    assert error.code is code
    assert str(error) == f"{code.name}: read handler answered HTTP status {status}"


async def test_one_that_hangs_is_a_failure_after_the_timeout() -> None:
    error = await failure(Server(delay=20), timeout=0.2)
    assert str(error) == "DEADLINE_EXCEEDED: read handler did not answer in time"


async def test_one_that_is_not_there_is_a_failure() -> None:
    handler = HttpReadHandler(HttpEndpoint("127.0.0.1", 9), timedelta(seconds=5))
    with pytest.raises(DeliveryFailed, match=r"read handler at 127\.0\.0\.1:9 cannot be reached"):
        await handler.handle(ReadSideId("balances"), Shard(3), envelope())
    await handler.close()


@pytest.mark.parametrize("entity_id", ["plain", "größe", "日本語", "line\nbreak", " a ", "\x7f", "x" * 255])
async def test_any_entity_id_arrives(entity_id: str) -> None:
    server = Server()
    await deliver(server, entity_id)
    ((_, headers, body),) = server.requests
    assert body["meta"]["entity_id"] == entity_id
    assert unquote(headers["x-cos-entity-id"]) == entity_id
