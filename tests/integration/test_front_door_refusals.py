"""What the public ports refuse: whom, how it is told, and that it harms nobody else."""

from __future__ import annotations

import asyncio
import logging

import grpc.aio
import httpx
import psutil
import pytest

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, SubscribeAllRequest
from tests.support.front_door import FrontDoor, answers, eventually, front_door
from tests.support.raw_grpc_client import EMPTY, raw_grpc_client
from tests.unit.test_authorization import SHOP

SERVICE = "/chief_of_state.v1.ChiefOfStateService"
COMMAND, SUBSCRIBE = f"{SERVICE}/ProcessCommand", f"{SERVICE}/SubscribeAll"
STATE = GetStateRequest(entity_id="a/b")
METHODS = [
    COMMAND,
    SUBSCRIBE,
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]


def lines_of(caplog: pytest.LogCaptureFixture, cause: str) -> list[logging.LogRecord]:
    return [line for line in caplog.records if getattr(line, "cause", None) == cause]


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture):  # type: ignore[no-untyped-def]
    """Whatever a client does, the log of the service has no traceback."""
    yield
    assert [line.getMessage() for line in caplog.records if line.exc_info] == []


# Connections


async def test_one_address_has_no_more_grpc_connections_than_its_share_and_those_there_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with front_door({"connections_per_address": 40}) as door, door.client() as client:
        await client.GetState(STATE, timeout=5)
        held = [await asyncio.open_connection("127.0.0.1", door.settings.grpc_port) for _ in range(300)]
        try:
            await eventually(lambda: _open(door.settings.grpc_port) <= 40)
            await eventually(lambda: door.refusals("grpc", "connections_per_address") == 261)
            # The connection that there was before is none of those cut.
            await client.GetState(STATE, timeout=1.5)
            (line,) = lines_of(caplog, "connections_per_address")
            assert line.last_from == "127.0.0.1"  # type: ignore[attr-defined]
        finally:
            for _, writer in held:
                writer.close()
        await eventually(lambda: _open(door.settings.grpc_port) <= 1)
        await answers(door)


def _open(port: int) -> int:
    """Connections of this process's server on the port."""
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
        for each in psutil.Process().net_connections("tcp")
    )


async def test_while_many_connections_are_held_on_both_ports_others_are_answered() -> None:
    bounds = {"connections": 1_500, "connections_per_address": 1_500, "header_seconds": 30.0}
    async with front_door(bounds) as door, door.client() as client:
        before = psutil.Process().memory_info().rss
        held = [
            await asyncio.open_connection("127.0.0.1", port)
            for _ in range(1_000)
            for port in (door.settings.grpc_port, door.settings.http_port)
        ]
        try:
            for _ in range(10):
                await client.GetState(STATE, timeout=1.5)
                await answers(door)
            assert psutil.Process().memory_info().rss - before < 200 * 1024 * 1024
        finally:
            for _, writer in held:
                writer.close()


# Messages


@pytest.mark.parametrize("method", METHODS[:4])
async def test_a_call_without_a_message_is_answered_at_once(method: str) -> None:
    async with front_door() as door, raw_grpc_client(door.settings.grpc_port) as client:
        code, message = await client.status(client.call(method, body=b""))
        assert (code, message) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "the call has no message")
        assert door.refusals("grpc", "no_message") == 1


@pytest.mark.parametrize("body", [None, b"\0\0\0\1\0half"], ids=["none", "half"])
@pytest.mark.parametrize("method", METHODS[:4])
async def test_a_call_whose_message_does_not_come_is_ended_in_time(method: str, body: bytes | None) -> None:
    bounds = {"body_seconds": 0.5}
    async with front_door(bounds) as door, raw_grpc_client(door.settings.grpc_port) as client:
        code, message = await client.status(client.call(method, body=body, ends=False))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert message == "the message did not come within 0.5 s"
        assert door.refusals("grpc", "body_time") == 1
        # The connection is as good as before.
        assert (await client.status(client.call("/grpc.health.v1.Health/Check")))[0] == 0


@pytest.mark.parametrize("token", [None, b"Bearer no token of ours"], ids=["none", "wrong"])
@pytest.mark.parametrize("method", METHODS[:2])
async def test_without_a_token_a_message_is_not_even_waited_for(method: str, token: bytes | None) -> None:
    metadata = [(b"authorization", token)] if token else []
    async with front_door(access=SHOP) as door, raw_grpc_client(door.settings.grpc_port) as client:
        # The beginning of a message of 30 MiB.
        stream = client.call(method, metadata, b"\0\x01\xe0\0\0half", ends=False)
        code, _ = await client.status(stream)
        assert code == grpc.StatusCode.UNAUTHENTICATED.value[0]
        assert door.refusals("grpc", "bad_token" if token else "no_token") == 1


@pytest.mark.parametrize(
    ("metadata", "body"),
    [([(b"grpc-encoding", b"gzip")], b"\1\0\0\0\2ab"), ([], b"\0\x7f\0\0\0ab")],
    ids=["compressed", "too large"],
)
async def test_messages_that_grpc_itself_refuses_are_counted(
    metadata: list[tuple[bytes, bytes]], body: bytes
) -> None:
    async with front_door() as door, raw_grpc_client(door.settings.grpc_port) as client:
        code, _ = await client.status(client.call(COMMAND, metadata, body))
        assert code in (grpc.StatusCode.UNIMPLEMENTED.value[0], grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        await eventually(lambda: door.refusals("grpc", "no_message") == 1)


# Metadata


@pytest.mark.parametrize("key", [b"x-any", b"user-agent", b"authorization"])
@pytest.mark.parametrize("method", METHODS)
async def test_metadata_that_are_no_utf_8_are_refused_on_every_method(method: str, key: bytes) -> None:
    async with front_door() as door, raw_grpc_client(door.settings.grpc_port) as client:
        code, message = await client.status(client.call(method, [(key, b"\xff\xfe")]))
        assert code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert "no UTF-8" in message
        assert door.refusals("grpc", "encoding") == 1
        # The next call on the connection is none of that.
        code, _ = await client.status(client.call("/grpc.health.v1.Health/Check", [(b"x-any", "ÿ".encode())]))
        assert code == 0


async def test_a_path_that_is_no_utf_8_is_counted_and_leaves_no_traceback() -> None:
    async with front_door() as door, raw_grpc_client(door.settings.grpc_port) as client:
        stream = client.call(b"/\xff\xfe")
        assert (await client.status(stream))[0] == grpc.StatusCode.UNKNOWN.value[0]
        await eventually(lambda: door.refusals("grpc", "encoding") == 1)


# What is counted and told


async def test_a_flood_of_calls_without_a_token_is_counted_and_makes_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with front_door(access=SHOP) as door, door.client() as client:
        caplog.clear()
        for _ in range(10):
            calls = [client.SubscribeAll(SubscribeAllRequest(), timeout=20) for _ in range(100)]
            codes = await asyncio.gather(*[call.code() for call in calls])
            assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
        assert door.refusals("grpc", "no_token") == 1_000
        assert len(caplog.records) == 1
        (line,) = lines_of(caplog, "no_token")
        assert (line.port, line.last_from) == ("grpc", "127.0.0.1")  # type: ignore[attr-defined]


async def test_what_is_refused_over_http_is_counted_by_its_cause() -> None:
    bounds = {"header_seconds": 0.5, "body_seconds": 0.5, "request_bytes": 1_000}
    async with front_door(bounds, access=SHOP) as door:
        await door.http_bytes(b"GET /alive HTTP/1.1\r\nhost: a\r\nx-half")
        await door.http_bytes(b"GET /alive HTTP/1.1\r\nx-big: " + b"a" * 100_000)
        await door.http_bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        async with httpx.AsyncClient() as http:
            path = f"{door.http}/v1/commands/cart-1/process"
            assert (await http.post(path, json={})).status_code == 401
            assert (await http.post(path, headers={"authorization": "Bearer x"})).status_code == 401
        for cause in ("head_time", "metadata", "protocol", "no_token", "bad_token"):
            assert door.refusals("http", cause) == 1, cause
    async with front_door(bounds) as door:
        head = POST + b"content-length: "
        await door.http_bytes(head + b"100\r\n\r\n{")
        await door.http_bytes(head.replace(b"host", b"connection: close\r\nhost") + b"2000\r\n\r\n")
        for cause in ("body_time", "message"):
            assert door.refusals("http", cause) == 1, cause


# Attacks


async def _unharmed(door: FrontDoor, attack) -> None:  # type: ignore[no-untyped-def]
    """Others are answered in 1.5 s while the attack runs, and memory stays bounded."""
    before = psutil.Process().memory_info().rss
    attacking = asyncio.ensure_future(attack)
    try:
        while not attacking.done():
            await answers(door)
        await asyncio.gather(attacking, return_exceptions=True)
        await answers(door)
        assert psutil.Process().memory_info().rss - before < 150 * 1024 * 1024
    finally:
        attacking.cancel()


async def _sent(port: int, chunk: bytes, times: int, opening: bytes = b"") -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(opening)
        for _ in range(times):
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass  # cut, as it should be
    finally:
        writer.transport.abort()


POST = b"POST /v1/commands/a/process HTTP/1.1\r\nhost: a\r\n"

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    "chunk",
    [
        frame(6, 0, 0, b"12345678") * 500,
        frame(4, 0, 0, b"\0\4\0\0\0\1") * 500,
        frame(4, 0, 0, b"\0\1\xff\xff\xff\xff") * 500,
        frame(8, 0, 0, b"\0\0\0\1") * 500,
        frame(2, 0, 1, b"\0\0\0\0\1") * 500,
        frame(200, 0, 0, b"") * 500,
        frame(0, 0, 1, b"") * 500,
    ],
    ids=["ping", "settings", "table", "window", "priority", "unknown", "empty data"],
)
async def test_a_flood_of_tiny_frames_harms_nobody(chunk: bytes) -> None:
    async with front_door() as door:
        await _unharmed(door, _sent(door.settings.grpc_port, chunk, 200, PREFACE))


async def test_calls_that_are_reset_as_soon_as_they_are_begun_harm_nobody() -> None:
    async def attack() -> None:
        async with raw_grpc_client(door.settings.grpc_port) as client:
            for _ in range(3_000):
                client.connection.reset_stream(client.call(COMMAND, body=EMPTY, ends=True))
                client.flush()
                await asyncio.sleep(0)

    async with front_door() as door:
        await _unharmed(door, attack())
        await eventually(lambda: door.replica.in_hand == 0)


async def test_answers_for_which_there_is_no_window_are_let_go_of_when_the_client_goes() -> None:
    async def attack() -> None:
        async with raw_grpc_client(door.settings.grpc_port) as client:
            client.connection.update_settings({4: 0})
            client.flush()
            for _ in range(800):
                client.call("/grpc.health.v1.Health/Check")
                await asyncio.sleep(0.001)

    async with front_door() as door:
        await _unharmed(door, attack())


async def test_a_body_with_trailers_without_end_is_cut() -> None:
    head = POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    async with front_door({"body_seconds": 2.0}) as door:
        await _unharmed(door, _sent(door.settings.http_port, b"x-a: b\r\n" * 1_000, 500, head))
        assert door.refusals("http", "metadata") + door.refusals("http", "protocol") == 1


async def test_a_body_of_tiny_chunks_harms_nobody() -> None:
    head = POST + b"transfer-encoding: chunked\r\n\r\n"
    async with front_door({"body_seconds": 2.0}) as door:
        await _unharmed(door, _sent(door.settings.http_port, b"1\r\na\r\n" * 500, 200, head))


async def test_who_waits_to_be_told_to_go_on_and_then_does_not_is_cut() -> None:
    head = POST + b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n"
    async with front_door({"body_seconds": 0.5}) as door:
        told = await door.http_bytes(head)
        assert told.startswith(b"HTTP/1.1 100")
        assert b"HTTP/1.1 408" in told
