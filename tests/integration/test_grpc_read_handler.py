"""GrpcReadHandler against real gRPC servers, well-behaved and not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any

from cos_ray.domain.errors import DeliveryFailed
from cos_ray.domain.ids import EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import EventEnvelope, Header, Meta, Packed
from cos_ray.handlers.endpoints import GrpcEndpoint
from cos_ray.handlers.grpc_read import GrpcReadHandler
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2 import HandleReadSideRequest, HandleReadSideResponse

Answer = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]

YES = HandleReadSideResponse(successful=True).SerializeToString()
NO = HandleReadSideResponse(successful=False).SerializeToString()


class Server:
    """A read handler's server that answers bytes, so it can answer anything."""

    def __init__(self) -> None:
        self.requests: list[HandleReadSideRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.answer: Answer = self.confirm

    async def confirm(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return YES

    async def handle(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.requests.append(HandleReadSideRequest.FromString(request))
        self.metadata.append(dict(context.invocation_metadata()))
        return await self.answer(request, context)

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[int]:
        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(self.handle)
        service = "chief_of_state.v1.ReadSideHandlerService"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"HandleReadSide": method}),)
        )
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        try:
            yield bound
        finally:
            await server.stop(0)


@pytest.fixture
def server() -> Server:
    return Server()


@asynccontextmanager
async def handler_at(port: int, timeout: float = 10) -> AsyncIterator[GrpcReadHandler]:
    handler = GrpcReadHandler(GrpcEndpoint("127.0.0.1", port), timedelta(seconds=timeout))
    try:
        yield handler
    finally:
        await handler.close()


def envelope(entity_id: str = "account-1") -> EventEnvelope:
    event = Any(type_url="type.example/Deposited", value=b"\x01\x02").SerializeToString()
    state = Any(type_url="type.example/Account", value=b"\x03").SerializeToString()
    date = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=timezone.utc)
    meta = Meta(EntityId(entity_id), Revision(7), date, (Header("x-who", "me"),))
    return EventEnvelope(Packed(event), Packed(state), meta, Revision(7))


async def deliver(handler: GrpcReadHandler, entity_id: str = "account-1") -> None:
    await handler.handle(ReadSideId("balances"), Shard(3), envelope(entity_id))


async def failure(handler: GrpcReadHandler) -> str:
    with pytest.raises(DeliveryFailed) as caught:
        await deliver(handler)
    return str(caught.value)


async def test_a_confirmed_event_arrived_whole(server):
    async with server.listening() as port, handler_at(port) as handler:
        await deliver(handler)
    (request,) = server.requests
    assert request.event == Any(type_url="type.example/Deposited", value=b"\x01\x02")
    assert request.state == Any(type_url="type.example/Account", value=b"\x03")
    assert (request.meta.entity_id, request.meta.revision_number) == ("account-1", 7)
    assert request.meta.headers[0].string_value == "me"
    assert request.read_side_id == "balances"
    assert server.metadata[0]["x-cos-entity-id"] == "account-1"
    assert server.metadata[0]["x-cos-event-tag"] == "3"


@pytest.mark.parametrize("reply", [NO, b""])
async def test_an_answer_of_false_is_a_failure(server, reply):
    async def refuse(request, context):
        return reply

    server.answer = refuse
    async with server.listening() as port, handler_at(port) as handler:
        assert await failure(handler) == "the handler answered successful = false"


async def test_an_error_is_a_failure_with_code_and_message(server):
    async def break_down(request, context):
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "table is locked")

    server.answer = break_down
    async with server.listening() as port, handler_at(port) as handler:
        assert await failure(handler) == "FAILED_PRECONDITION: table is locked"


async def test_a_crash_of_the_handler_is_a_failure(server):
    async def crash(request, context):
        raise RuntimeError("oops")

    server.answer = crash
    async with server.listening() as port, handler_at(port) as handler:
        assert (await failure(handler)).startswith("UNKNOWN: ")


async def test_a_handler_that_hangs_is_a_failure_after_the_timeout(server):
    never = asyncio.Event()

    async def hang(request, context):
        await never.wait()
        return YES

    server.answer = hang
    async with server.listening() as port, handler_at(port, timeout=0.2) as handler:
        assert await failure(handler) == f"no answer from 127.0.0.1:{port} within 0.2 s"


@pytest.mark.parametrize("garbage", [b"\xff", b"\x08", b"not protobuf at all"])
async def test_a_reply_that_cannot_be_read_is_a_failure(server, garbage):
    async def talk_nonsense(request, context):
        return garbage

    server.answer = talk_nonsense
    async with server.listening() as port, handler_at(port) as handler:
        assert await failure(handler) == "the reply is no HandleReadSideResponse"


async def test_something_that_is_no_grpc_server_is_a_failure():
    async def greet(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with other, handler_at(other.sockets[0].getsockname()[1], timeout=3) as handler:
        assert await failure(handler)


async def test_a_handler_that_was_down_is_found_when_it_is_up(server):
    async with server.listening() as port:
        pass
    async with handler_at(port) as handler:
        assert (await failure(handler)).startswith("UNAVAILABLE: ")
        async with server.listening(port):
            await _until_delivered(handler)
        assert (await failure(handler)).startswith("UNAVAILABLE: ")
        async with server.listening(port):
            await _until_delivered(handler)


async def _until_delivered(handler: GrpcReadHandler, within: float = 10) -> None:
    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            return await deliver(handler)
        except DeliveryFailed:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "entity_id",
    [
        "plain",
        "a b~!%41",
        "größe",
        "日本語",
        "line\nbreak",
        "tab\t",
        "\x7f",
        "🦊/1",
        "x" * 255,
        "é" * 255,
        " a ",
        " ",
    ],
)
async def test_any_entity_id_arrives(server, entity_id):
    async with server.listening() as port, handler_at(port) as handler:
        await deliver(handler, entity_id)
    sent = server.metadata[0]["x-cos-entity-id"]
    assert server.requests[0].meta.entity_id == entity_id
    is_plain = entity_id.isascii() and entity_id.isprintable()
    assert (sent if is_plain else unquote(sent)) == entity_id


async def test_an_id_that_no_message_can_hold_is_a_failure_and_nothing_worse(server):
    async with server.listening() as port, handler_at(port) as handler:
        with pytest.raises(DeliveryFailed, match="cannot be sent"):
            await deliver(handler, "\ud800")
        await deliver(handler, "fine")


async def test_cancelling_a_delivery_cancels_it(server):
    async def hang(request, context):
        await asyncio.Event().wait()

    server.answer = hang
    async with server.listening() as port, handler_at(port) as handler:
        delivery = asyncio.ensure_future(deliver(handler))
        while not server.requests:
            await asyncio.sleep(0.01)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery


async def test_closing_twice_or_unused_is_fine_and_it_opens_again(server):
    async with server.listening() as port, handler_at(port) as handler:
        await handler.close()
        await deliver(handler)
        await handler.close()
        await handler.close()
        await deliver(handler)
    assert len(server.requests) == 2
