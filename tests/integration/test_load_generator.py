"""The benchmarks' own HTTP/2 client does what gRPC's does, and says what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import grpc.aio
import pytest

pytest.importorskip("hpack", reason="uv sync --group benchmarks")

from benchmarks.load.frames import literal_block
from benchmarks.load.http2 import Connection, Failure, Outcome, Request, connect
from benchmarks.load.timing import at_rate, in_flight

ECHO = "/test.Echo/Double"


class Echo:
    """A gRPC server that says everything twice, and its port."""

    def __init__(self) -> None:
        self.port = 0
        self.seen = 0
        self.delay = 0.0

    async def double(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self.seen += 1
        if self.delay:
            await asyncio.sleep(self.delay)
        if request == b"no":
            await context.abort(grpc.StatusCode.ABORTED, "as asked")
        return 2 * request


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    # As few streams as a server may well allow: more have to wait their turn.
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 10)])
    method = grpc.unary_unary_rpc_method_handler(echo.double)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Double": method}),))
    echo.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield echo
    await server.stop(0)


@pytest.fixture
async def connection(echo: Echo) -> AsyncIterator[Connection]:
    connection = await connect("127.0.0.1", echo.port, is_grpc=True)
    yield connection
    connection.close()


def message(payload: bytes) -> bytes:
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def request(payload: bytes, path: str = ECHO) -> Request:
    headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")]
    return Request(
        literal_block([*headers, ("te", "trailers"), ("content-type", "application/grpc")]), message(payload)
    )


async def ask(connection: Connection, payload: bytes, path: str = ECHO) -> Outcome:
    answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    connection.request(request(payload, path), answered.set_result)
    return await asyncio.wait_for(answered, 20)


@pytest.mark.parametrize("size", [0, 1, 126, 127, 16_384, 70_000, 1_000_000, 2_000_000])
async def test_it_sends_and_receives_the_same_bytes_as_grpc_s_own_client(
    echo: Echo, connection: Connection, size: int
) -> None:
    payload = bytes(number % 251 for number in range(size))
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{echo.port}", [("grpc.max_receive_message_length", -1)]
    ) as channel:
        expected: bytes = await channel.unary_unary(ECHO)(payload)
    assert await ask(connection, payload) == message(expected)


async def test_many_large_requests_at_once_share_the_windows(echo: Echo, connection: Connection) -> None:
    payloads = [bytes([number]) * 200_000 for number in range(60)]
    replies = await asyncio.gather(*[ask(connection, payload) for payload in payloads])
    assert replies == [message(2 * payload) for payload in payloads]
    assert connection.limit == 10
    assert connection.under_way == 0


async def test_a_refusal_is_a_failure_with_its_status(connection: Connection) -> None:
    assert await ask(connection, b"no") == Failure("grpc-status 10: as asked")
    unknown = await ask(connection, b"", "/test.Echo/Nothing")
    assert isinstance(unknown, Failure)
    assert unknown.reason.startswith("grpc-status 12")
    assert await ask(connection, b"yes") == message(b"yesyes")


async def test_what_is_under_way_when_the_server_goes_fails(echo: Echo, connection: Connection) -> None:
    echo.delay = 60
    asked = asyncio.create_task(ask(connection, b"lost"))
    while not echo.seen:
        await asyncio.sleep(0.01)
    assert connection._transport is not None
    connection._transport.abort()
    assert isinstance(await asked, Failure)


async def test_so_many_are_kept_in_flight_and_all_are_counted(echo: Echo, connection: Connection) -> None:
    requests = iter([request(b"x")] * 50 + [request(b"no")] * 2)
    tally = await in_flight([connection], partial(next, requests, None), 8, 60)
    assert (len(tally.latencies), tally.failures.total()) == (50, 2)
    assert echo.seen == 52


async def test_at_a_fixed_rate_a_standstill_counts_for_all_that_were_due(
    echo: Echo, connection: Connection
) -> None:
    echo.delay = 0.5
    requests = iter([request(b"x")] * 20)
    # Ten at a time are taken, each takes half a second: the second ten wait for the first.
    tally = await at_rate([connection], partial(next, requests, None), 1_000, 0.02)
    assert len(tally.latencies) == 20
    assert sum(latency > 0.9 for latency in tally.latencies) == 10
