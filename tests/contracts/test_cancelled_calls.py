"""A command whose client goes while it is at its handler: in each kind of handler, through its entity."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any as Anything

import grpc
import grpc.aio
import pytest
from google.protobuf.any import pack as any_of

from cos_ray.domain.errors import Code
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Shard
from cos_ray.domain.messages import Accepted, Command, Header, Packed, Refused
from cos_ray.handlers.endpoints import GrpcEndpoint, HttpEndpoint, PythonEndpoint
from cos_ray.ports import WriteHandler
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleCommandResponse, HandleEventResponse
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import (
    WriteSideHandlerServiceServicer,
    add_WriteSideHandlerServiceServicer_to_server,
)
from cos_ray.protocol.write_stream import add_write_stream_to_server
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, AccountOpened
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.writeside.entity import Entity
from tests.support import handler as kit

BUDGET = 20
SEEN = ("unary", "stream", "http", "coroutine")
"""The kinds whose handler is told. A plain function runs to its end, and nobody hears what it returns."""


class Told:
    """What the handlers of this file do, and what they have seen."""

    def __init__(self) -> None:
        self.waits = True
        self.begun = self.cancelled = 0
        self.left: list[float] = []
        """The seconds that each call was given, where the handler can tell."""
        self.goes_on = threading.Event()

    async def run(self, left: float | None = None) -> None:
        """Wait as long as told."""
        self.begun += 1
        if left is not None:
            self.left.append(left)
        try:
            if self.waits:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def goes(self) -> None:
        """Answer from now on."""
        self.waits = False
        self.goes_on.set()


told = Told()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    told.__init__()  # type: ignore[misc]


class Coroutine:
    async def handle_command(self, command: Anything, prior_state: Anything, meta: Anything) -> Anything:
        await told.run()
        return [AccountOpened(owner="Ada")]

    async def handle_event(self, event: Anything, prior_state: Anything, meta: Anything) -> Anything:
        return Account(owner="Ada", is_open=True)


class Function:
    def handle_command(self, command: Anything, prior_state: Anything, meta: Anything) -> Anything:
        told.begun += 1
        if told.waits:
            told.goes_on.wait(30)
        return [AccountOpened(owner="Ada")]

    def handle_event(self, event: Anything, prior_state: Anything, meta: Anything) -> Anything:
        return Account(owner="Ada", is_open=True)


class Servicer(WriteSideHandlerServiceServicer):
    async def HandleCommand(self, request: Anything, context: Anything) -> HandleCommandResponse:
        await told.run(context.time_remaining())
        return HandleCommandResponse(events=[any_of(AccountOpened(owner="Ada"))])

    async def HandleEvent(self, request: Anything, context: Anything) -> HandleEventResponse:
        told.left.append(context.time_remaining())
        return HandleEventResponse(resulting_state=any_of(Account(owner="Ada", is_open=True)))


class HttpServer(kit.HttpStage):
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            await reader.readexactly(int(headers["content-length"]))
            told.left.append(int(headers["x-cos-timeout-ms"]) / 1000)
            if first.split()[1].endswith("handleCommand"):
                told.begun += 1
                if told.waits:
                    # Nothing more comes until the other side closes.
                    assert await reader.read(1) == b""
                    told.cancelled += 1
                    return
                answer: Anything = HandleCommandResponse(events=[any_of(AccountOpened(owner="Ada"))])
            else:
                answer = HandleEventResponse(resulting_state=any_of(Account(owner="Ada", is_open=True)))
            writer.write(kit._response(answer))
            await writer.drain()


@asynccontextmanager
async def _handler(kind: str) -> AsyncIterator[Anything]:
    match kind:
        case "coroutine" | "function":
            yield kit.built(PythonEndpoint(f"{__name__}:{kind.capitalize()}"))
        case "http":
            async with HttpServer().listening() as port:
                handler = kit.built(HttpEndpoint("127.0.0.1", port))
                yield handler
                await handler.close()
        case _:
            server, servicer = grpc.aio.server(), Servicer()
            add_WriteSideHandlerServiceServicer_to_server(servicer, server)
            if kind == "stream":
                add_write_stream_to_server(servicer, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            handler = kit.built(GrpcEndpoint("127.0.0.1", port))
            if kind == "stream":
                await _until_streamed(handler)
            yield handler
            await handler.close()
            await server.stop(None)


async def _until_streamed(handler: Anything) -> None:
    """Ask until the stream takes calls; then forget what was seen."""
    told.waits = False
    while not any(calls.stream.opened() for calls in _write_handler(handler)._pool):
        await kit.ask(handler)
        await asyncio.sleep(0.01)
    told.__init__()  # type: ignore[misc]


def _write_handler(handler: Anything) -> Anything:
    return getattr(handler, "_handler", handler)


@pytest.fixture(params=[*SEEN, "function"])
async def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def _until(is_true: Callable[[], object]) -> None:
    async def look() -> None:
        while not is_true():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(look(), 10)


def _command(id_: str, key: str | None = None) -> Command:
    idempotency_key = None if key is None else IdempotencyKey(key)
    return Command(kit.ADA, kit.packed(kit.OPEN), CommandId(id_), BUDGET, key=idempotency_key)


def _entity(handler: WriteHandler, name: str) -> Entity:
    return Entity(EntityId(name), Shard(0), handler, MemoryJournal(), SystemClock())


async def test_its_call_ends_and_harms_no_other(kind: str) -> None:
    async with _handler(kind) as handler:
        one, other = _entity(handler, "ada"), _entity(handler, "bob")
        beside = asyncio.ensure_future(other.process(_command("beside")))
        await _until(lambda: told.begun == 1)
        for number in range(1, 11):
            running = asyncio.ensure_future(one.process(_command(f"c{number}", "k")))
            await _until(lambda: told.begun == 1 + number)  # noqa: B023
            one.withdraw(CommandId(f"c{number}"))
            reply = await asyncio.wait_for(running, 5)
            assert isinstance(reply, Refused)
            assert reply.status.code is Code.CANCELLED
        if kind in SEEN:
            await _until(lambda: told.cancelled == 10)
        # One more of the same key waits for its turn, of a client that stays.
        last = asyncio.ensure_future(one.process(_command("last", "k")))
        await _until(lambda: told.begun == 12)
        again = asyncio.ensure_future(one.process(_command("again", "k")))
        await asyncio.sleep(0)
        one.withdraw(CommandId("last"))
        assert isinstance(await asyncio.wait_for(last, 5), Refused)
        await _until(lambda: told.begun == 13)
        assert not beside.done()
        other.withdraw(CommandId("beside"))
        assert isinstance(await asyncio.wait_for(beside, 5), Refused)
        told.goes()
        one.withdraw(CommandId("again"))
        await asyncio.wait_for(again, 5)
        for id_ in ("resent", "resent again"):
            done = await asyncio.wait_for(one.process(_command(id_, "k")), 10)
            assert isinstance(done, Accepted)
            assert done.state.meta.revision == 1


async def test_each_call_says_what_is_left_of_the_command_s_time(kind: str) -> None:
    told.goes()
    async with _handler(kind) as handler:
        told.goes()
        reply = await _entity(handler, "ada").process(_command("c"))
        assert isinstance(reply, Accepted)
    if kind in ("unary", "stream", "http"):
        # The command's, and its event's: a stream may have been asked both in one.
        assert 1 <= len(told.left) <= 2
        assert all(BUDGET - 5 < left <= BUDGET for left in told.left)


async def test_over_http_the_time_left_is_said_once_whatever_the_client_sent() -> None:
    told.goes()
    async with _handler("http") as handler:
        header = Header("X-Cos-Timeout-Ms", "77777")
        await handler.handle_command(Packed(kit.packed(kit.OPEN)), kit.UNBORN, (header,), 3.0)
    assert len(told.left) == 1
    assert 2 < told.left[0] <= 3
