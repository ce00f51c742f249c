"""The bank's write handler in all three kinds, and write handlers that misbehave in each."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any as Anything

import grpc
import grpc.aio
import uvicorn
from google.protobuf.any import pack as any_of
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from cos_ray.bootstrap.handlers import build_write_handler
from cos_ray.domain.decisions import Decision, Persist
from cos_ray.domain.errors import Code, HandlerFailed
from cos_ray.domain.evolution import unborn
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import EntityState, Headers, Meta, Packed
from cos_ray.handlers.endpoints import GrpcEndpoint, HttpEndpoint, PythonEndpoint, WriteTarget
from cos_ray.ports import WriteHandler
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import (
    HandleCommandRequest,
    HandleCommandResponse,
    HandleEventRequest,
    HandleEventResponse,
)
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import (
    add_WriteSideHandlerServiceServicer_to_server,
)
from cos_ray.samples.bank.http_write_handler import api
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, AccountOpened, OpenAccount
from cos_ray.samples.bank.write_handler import BankWriteHandler
from cos_ray.telemetry.meters import Meters

KINDS = ("grpc", "http", "python")
ADA = EntityId("ada")
UNBORN = unborn(ADA)
OPEN = OpenAccount(owner="Ada", opening_balance=5_00)
BANK_CLASS = "cos_ray.samples.bank.python_handler:BankAccounts"


def packed(message: Message) -> Packed:
    """A message as the service holds it."""
    return Packed(any_of(message).SerializeToString())


def unpacked(packed_: Packed, class_: Callable[[], Anything]) -> Anything:
    """The message, which must be of this class."""
    message = class_()
    assert Any.FromString(packed_).Unpack(message)
    return message


def state_of(account: Account, revision: int = 1) -> EntityState:
    """An account with a history."""
    meta = Meta(ADA, revision)  # type: ignore[arg-type]
    return EntityState(packed(account), meta, revision)  # type: ignore[arg-type]


async def ask(
    handler: WriteHandler,
    command: Message = OPEN,
    prior: EntityState = UNBORN,
    headers: Headers = (),
    timeout: float = 10,
) -> Decision:
    """Which events does the command lead to?"""
    return await handler.handle_command(packed(command), prior, headers, timeout)


async def evolve(
    handler: WriteHandler, event: Message, prior: EntityState = UNBORN, timeout: float = 10
) -> Packed:
    """Which state does the event lead to?"""
    return await handler.handle_event(packed(event), prior.state, Meta(ADA, 1), timeout)  # type: ignore[arg-type]


def events_of(decision: Decision) -> list[Any]:
    """What the command led to; nothing for no change."""
    return [Any.FromString(event) for event in decision.events] if isinstance(decision, Persist) else []


def built(target: WriteTarget, call_timeout: float = 30) -> Anything:
    """The handler as an entity's process builds it."""
    return build_write_handler(target, timedelta(seconds=call_timeout), None, Meters())


@asynccontextmanager
async def bank(kind: str) -> AsyncIterator[WriteHandler]:
    """The sample's own handler of this kind, and what calls it."""
    async with AsyncExitStack() as stack:
        match kind:
            case "grpc":
                server = grpc.aio.server()
                add_WriteSideHandlerServiceServicer_to_server(BankWriteHandler(), server)
                port = server.add_insecure_port("127.0.0.1:0")
                await server.start()
                stack.push_async_callback(server.stop, None)
                handler = built(GrpcEndpoint("127.0.0.1", port))
                stack.push_async_callback(handler.close)
            case "http":
                port = await stack.enter_async_context(serving_bank_over_http())
                handler = built(HttpEndpoint("127.0.0.1", port))
                stack.push_async_callback(handler.close)
            case _:
                handler = built(PythonEndpoint(BANK_CLASS))
        yield handler


@asynccontextmanager
async def serving_bank_over_http() -> AsyncIterator[int]:
    """The sample's HTTP handler on a free port."""
    server = uvicorn.Server(uvicorn.Config(api, host="127.0.0.1", port=0, log_level="error"))
    running = asyncio.ensure_future(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


Answer = Callable[[Message], Awaitable[Anything]]


async def good(request: Message) -> Message:
    """What a handler of few words answers: one event, and an account."""
    if isinstance(request, HandleCommandRequest):
        return HandleCommandResponse(events=[any_of(AccountOpened(owner="Ada"))])
    return HandleEventResponse(resulting_state=any_of(Account(owner="Ada", is_open=True)))


@dataclass
class Stage:
    """A handler's server that answers as a test says, in bytes if need be."""

    answer: Answer = good
    requests: list[Message] = field(default_factory=list)
    headers: list[list[tuple[str, Anything]]] = field(default_factory=list)
    connections: int = 0

    async def play(self, request: Message) -> Anything:
        """Answer as told."""
        self.requests.append(request)
        return await self.answer(request)


class GrpcStage(Stage):
    """Answers messages, or bytes that are none."""

    target = GrpcEndpoint

    @asynccontextmanager
    async def listening(
        self, port: int = 0, credentials: grpc.ServerCredentials | None = None, host: str = "127.0.0.1"
    ) -> AsyncIterator[int]:
        """On a free port, or on this one."""
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)])
        kinds = {"HandleCommand": HandleCommandRequest, "HandleEvent": HandleEventRequest}
        methods = {
            name: grpc.unary_unary_rpc_method_handler(self._method, request_deserializer=kind.FromString)
            for name, kind in kinds.items()
        }
        service = "chief_of_state.v1.WriteSideHandlerService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        address = f"{host}:{port}"
        add = server.add_secure_port if credentials else server.add_insecure_port
        port = add(address, credentials) if credentials else add(address)
        await server.start()
        try:
            yield port
        finally:
            await server.stop(0)

    async def _method(self, request: Message, context: grpc.aio.ServicerContext) -> bytes:
        self.headers.append(list(context.invocation_metadata()))
        answer = await self.play(request)
        if isinstance(answer, tuple):
            code, text, trailers = answer
            await context.abort(code, text, trailers)
        return answer if isinstance(answer, bytes) else answer.SerializeToString()


class HttpStage(Stage):
    """Answers messages in JSON, a status with content type and text, or raw bytes of a connection."""

    target = HttpEndpoint

    @asynccontextmanager
    async def listening(
        self, port: int = 0, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> AsyncIterator[int]:
        """On a free port, or on this one."""
        writers: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writers.add(writer)
            try:
                await self._serve(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writers.discard(writer)
                writer.close()

        server = await asyncio.start_server(serve, host, port, ssl=context)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [(n.lower(), v) for n, v in (line.split(": ", 1) for line in lines if line)]
            self.headers.append(pairs)
            body = json.loads(await reader.readexactly(int(dict(pairs)["content-length"])))
            answer = await self.play(_request(first.split()[1], body))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
                return
            writer.write(_response(answer))
            await writer.drain()


def _request(path: str, body: dict[str, Anything]) -> Message:
    kinds = {
        "/v1/writeside/handleCommand": HandleCommandRequest,
        "/v1/writeside/handleEvent": HandleEventRequest,
    }
    request = kinds[path]()
    for name, value in body.items():
        if name.endswith("meta"):
            meta = getattr(request, name)
            meta.entity_id = value["entity_id"]
            meta.revision_number = value.get("revision_number", 0)
            for header in value.get("headers", []):
                meta.headers.add(key=header["key"], string_value=header["string_value"])
        else:
            getattr(request, name).MergeFromString(base64.b64decode(value))
    return request


def _response(answer: Anything) -> bytes:
    status, kind, text = answer if isinstance(answer, tuple) else (200, "application/json", _json(answer))
    content = text if isinstance(text, bytes) else text.encode()
    return b"HTTP/1.1 %d X\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        kind.encode(),
        len(content),
        content,
    )


def _json(answer: Message) -> str:
    def text(any_: Any) -> str:
        return base64.b64encode(any_.SerializeToString()).decode()

    if isinstance(answer, HandleCommandResponse):
        return json.dumps({"events": [text(event) for event in answer.events]})
    assert isinstance(answer, HandleEventResponse)
    return json.dumps({"resulting_state": text(answer.resulting_state)})


class ScriptedApplication:
    """The in-process kind: does what the test puts here."""

    command: Callable[[], object] = staticmethod(lambda: [AccountOpened(owner="Ada")])
    event: Callable[[], object] = staticmethod(lambda: Account(owner="Ada", is_open=True))

    def handle_command(self, command: Message, prior_state: Message | None, meta: object) -> object:
        return type(self).command()

    def handle_event(self, event: Message, prior_state: Message | None, meta: object) -> object:
        return type(self).event()


def slow(seconds: float) -> Callable[[], object]:
    """What takes its time, in a plain function."""

    def sleep() -> object:
        time.sleep(seconds)
        return []

    return sleep


async def until_answered(handler: WriteHandler, within: float = 15) -> Decision:
    """Ask until the handler is there again; nothing else than its absence is put up with."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            return await ask(handler)
        except HandlerFailed as error:
            if error.status.code is not Code.UNAVAILABLE or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.02)
