"""
Whatever a handler says or raises, the client gets an answer, and soon: from the handler to the wire.

All parts of a command's way but Ray are real here: a handler, an entity, the bytes that travel between
processes, the ingress, a gRPC server such as a replica has, and a client.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any as Anything

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from cos_ray import Rejected
from cos_ray.domain.errors import Code
from cos_ray.domain.ids import Shard
from cos_ray.domain.messages import Command, EntityState, Reply
from cos_ray.domain.shard_assignment import Assignment
from cos_ray.handlers.endpoints import HttpEndpoint, PythonEndpoint
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.grpc_calls import MethodHandlers
from cos_ray.ports import WriteHandler
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, AccountOpened
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.transport.batching import Batch, BatchingServer
from cos_ray.transport.encoding import batch_from_bytes, batch_to_bytes, reply_from_bytes, reply_to_bytes
from cos_ray.writeside.entity import Entity
from tests.support import handler as kit
from tests.support.handler import HttpStage, ScriptedApplication
from tests.unit.test_ingress import ingress

SERVICE = "chief_of_state.v1.ChiefOfStateService"
BUDGET = 5.0
"""Seconds for a command: no case here needs but a fraction of it."""

NOBODY = Assignment(0, 16, ())


class Gateway:
    """An entity in another process, as far as bytes go."""

    def __init__(self, handler: WriteHandler) -> None:
        self._handler = handler
        self.journal = MemoryJournal()
        self._server = BatchingServer(self._process, lambda *_: None)

    async def _process(self, command: Command) -> Reply:
        entity = Entity(command.entity_id, Shard(0), self._handler, self.journal, SystemClock())
        return await entity.process(command)

    async def process(self, command: Command) -> Reply:
        _, batch = batch_from_bytes(batch_to_bytes(NOBODY, Batch([(1, command)])))
        while True:
            answer = reply_from_bytes(reply_to_bytes(await self._server.exchange("test", batch)))
            for _, reply in answer.replies:
                return reply  # type: ignore[return-value]
            batch = replace(batch, requests=[])

    async def state(self, entity_id: Anything) -> EntityState:
        raise NotImplementedError


class House:
    """The way of a command, whole, in an event loop of its own."""

    def __init__(self, handler: WriteHandler) -> None:
        self.loop = asyncio.new_event_loop()
        self._serials = itertools.count()
        self.gateway = Gateway(handler)
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        http = HttpPolicy(api=True)
        made = await ingress(self.gateway, http=http)  # type: ignore[arg-type]
        self._server = grpc.aio.server(handlers=[MethodHandlers(made, [SERVICE], unread_seconds=30)])
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._client = ChiefOfStateServiceStub(self._channel)
        transport = httpx.ASGITransport(made.__serve_build_asgi_app__(), raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://test")

    def close(self) -> None:
        async def close() -> None:
            await self._channel.close()
            await self._server.stop(0)
            await self._http.aclose()

        self.loop.run_until_complete(close())
        self.loop.close()

    def answered(self) -> tuple[Code, str, bytes | None]:
        """How a command ends: code, message and details; asked in both ways, which must agree."""
        return self.loop.run_until_complete(self._answered())

    async def _answered(self) -> tuple[Code, str, bytes | None]:
        id_ = f"entity-{next(self._serials)}"
        request = ProcessCommandRequest(entity_id=id_, command=Any.FromString(kit.packed(kit.OPEN)))
        code, message, details = Code.OK, "", None
        try:
            # More than the command has: only a call without an answer comes to that.
            await self._client.ProcessCommand(request, timeout=BUDGET + 5)
        except grpc.aio.AioRpcError as error:
            code, message = Code(error.code().value[0]), error.details() or ""
            details = next(
                (v for k, v in error.trailing_metadata() or () if k == "grpc-status-details-bin"), None
            )
        body = {"command": base64.b64encode(kit.packed(kit.OPEN)).decode()}
        over_http = await self._http.post(f"/v1/commands/{id_}-http/process", json=body, timeout=BUDGET + 5)
        assert over_http.content
        if code is Code.OK:
            assert over_http.status_code == 200, over_http.text
        else:
            assert over_http.json()["error"].startswith(f"{code.name}:"), (code, message, over_http.text)
        return code, message, details


@pytest.fixture(scope="module", autouse=True)
def silence() -> Iterator[None]:
    # What is logged quotes what the handlers say, and pytest's workers cannot pass such texts on either.
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def python_house() -> Iterator[House]:
    house = House(kit.built(PythonEndpoint("tests.support.handler:ScriptedApplication")))
    yield house
    house.close()


class Untellable(Exception):
    """Cannot be written."""

    def __str__(self) -> str:
        raise ValueError("no words")


class NoText:
    """What stands for a text, and is none."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


class OwnText(str):
    """Of a class that another process may not know."""

    __slots__ = ()

    def __reduce__(self) -> Anything:
        raise TypeError("stays here")


def rejected(code: object, message: object, details: object) -> Rejected:
    """As an application can make one, for it may set attributes at will."""
    error = Rejected(Code.ABORTED)
    error.code, error.message, error.details = code, message, details  # type: ignore[assignment]
    return error


any_text = some.text(some.characters(exclude_categories=()), max_size=200) | some.sampled_from(
    [
        "hi \ud83d",
        "\udc00" * 50,
        "nul \0 nul",
        "100%",
        "größe\r\nx: y",
        "é" * 9_000,
        "a" * 30_000,
        "%" * 5_000,
    ]
)
any_thing = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(),
    some.floats(),
    any_text,
    some.binary(max_size=50),
    some.builds(OwnText, any_text),
    some.builds(NoText),
    some.builds(Untellable),
    some.lists(some.integers(), max_size=3),
    some.just(Account(owner="Ada")),
    some.just(AccountOpened(owner="Ada")),
    some.just(Account),
)
any_error = some.one_of(
    some.builds(ValueError, any_text),
    some.builds(rejected, any_thing | some.sampled_from(list(Code)), any_thing, any_thing),
    some.builds(
        rejected,
        some.sampled_from(list(Code)[1:]),
        any_text,
        some.none() | some.integers(0, 60_000).map(bytes),
    ),
    some.sampled_from(
        [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, Untellable, MemoryError]
    ).map(lambda kind: kind()),
    some.builds(asyncio.CancelledError),
)


def behaviour(returned: object, raised: BaseException | None) -> Callable[[], object]:
    def behave() -> object:
        if raised is not None:
            raise raised
        return returned

    return behave


any_behaviour = some.builds(
    behaviour, any_thing | some.lists(any_thing, max_size=3), some.none()
) | some.builds(behaviour, some.none(), any_error)
unhurried = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@unhurried
@given(command=any_behaviour, event=any_behaviour)
def test_whatever_a_python_handler_does_is_answered(
    python_house: House, monkeypatch: pytest.MonkeyPatch, command: Anything, event: Anything
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ScriptedApplication, "command", staticmethod(command))
        patched.setattr(ScriptedApplication, "event", staticmethod(event))
        code, message, _ = python_house.answered()
    assert code not in (Code.DEADLINE_EXCEEDED, Code.CANCELLED) or "write handler" not in message
    assert "outcome unknown" not in message


@unhurried
@given(text=any_text, details=some.none() | some.integers(0, 60_000).map(bytes))
def test_a_refusal_stays_that_refusal_whatever_its_text(
    python_house: House, monkeypatch: pytest.MonkeyPatch, text: str, details: bytes | None
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            ScriptedApplication,
            "command",
            staticmethod(behaviour(None, Rejected(Code.FAILED_PRECONDITION, text, details))),
        )
        code, message, told = python_house.answered()
    assert code is Code.FAILED_PRECONDITION
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert message == whole or (message.endswith("…") and whole.startswith(message[:-1]))
    if len(whole) < 1_000 // 3:
        assert message == whole
    if details and len(details) < 3_000 and len(whole) < 200:
        assert told == details


@pytest.fixture
def http_house() -> Iterator[tuple[House, HttpStage]]:
    stage = HttpStage()
    loop = asyncio.new_event_loop()
    listening = stage.listening()
    port = loop.run_until_complete(listening.__aenter__())
    house = House.__new__(House)
    house.loop = loop
    house._serials = itertools.count()
    house.gateway = Gateway(kit.built(HttpEndpoint("127.0.0.1", port)))
    loop.run_until_complete(house._open())
    yield house, stage
    loop.run_until_complete(listening.__aexit__(None, None, None))
    house.close()


HALF = rb'{"error": "FAILED_PRECONDITION: hi \ud83d"}'
HTTP_REFUSALS = {
    "half an emoji": (412, "application/json", HALF, Code.FAILED_PRECONDITION, "hi \ufffd"),
    "half an emoji in problem details": (
        409,
        "application/problem+json",
        rb'{"detail": "\udc00"}',
        Code.ALREADY_EXISTS,
        "\ufffd",
    ),
    "half an emoji in CESU": (
        400,
        "application/json",
        b'{"error": "hi \xed\xa0\xbd"}',
        Code.INVALID_ARGUMENT,
        "hi \ufffd",
    ),
    "NUL": (400, "application/json", rb'{"error": "a\u0000b"}', Code.INVALID_ARGUMENT, "a\0b"),
    "two MB": (
        400,
        "application/json",
        b'{"error": "%s"}' % (b"a" * 2_000_000),
        Code.INVALID_ARGUMENT,
        "a" * 7_091 + "…",
    ),
    "two MB of umlauts": (
        400,
        "application/json",
        b'{"error": "%s"}' % ("ä" * 1_000_000).encode(),
        Code.INVALID_ARGUMENT,
        "ä" * 1_181 + "…",
    ),
    "no UTF-8": (400, "text/plain", b"gr\xf6\xdfe", Code.INVALID_ARGUMENT, "gr\ufffd\ufffde"),
    "an error that is no text": (
        400,
        "application/json",
        b'{"error": {"a": 1}}',
        Code.INVALID_ARGUMENT,
        None,
    ),
}
HTTP_ANSWERS = {
    "events: 0": (200, "application/json", '{"events": 0}'),
    "events: false": (200, "application/json", '{"events": false}'),
    "events: {}": (200, "application/json", '{"events": {}}'),
    "events: ''": (200, "application/json", '{"events": ""}'),
    "event: 0": (200, "application/json", '{"event": 0}'),
    "event: []": (200, "application/json", '{"event": []}'),
    "half an emoji": (200, "application/json", r'{"event": "\ud83d"}'),
    "nothing": (200, "application/json", ""),
    "null": (200, "application/json", "null"),
    "a number without end": (200, "application/json", "1" * 100_000),
    "no chunks": b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\nnot a number\r\n",
}


@pytest.mark.parametrize("what", HTTP_REFUSALS)
def test_a_refusal_over_http_arrives_as_text(http_house: tuple[House, HttpStage], what: str) -> None:
    house, stage = http_house
    *answer, code, text = HTTP_REFUSALS[what]

    async def refuse(_: object) -> object:
        return tuple(answer)

    stage.answer = refuse
    found, message, _ = house.answered()
    assert found is code
    assert text is None or message == text


@pytest.mark.parametrize("what", HTTP_ANSWERS)
def test_an_answer_over_http_that_is_none_is_a_fault_and_no_success(
    http_house: tuple[House, HttpStage], what: str
) -> None:
    house, stage = http_house

    async def misbehave(_: object) -> object:
        return HTTP_ANSWERS[what]

    stage.answer = misbehave
    code, message, _ = house.answered()
    assert code in (Code.INTERNAL, Code.UNAVAILABLE)
    assert "outcome unknown" not in message


def test_a_body_without_end_is_bounded(http_house: tuple[House, HttpStage]) -> None:
    house, stage = http_house

    async def go_on(_: object) -> object:
        return b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\n\r\n" + b" " * 34_000_000

    stage.answer = go_on
    assert house.answered()[0] is Code.RESOURCE_EXHAUSTED


def test_events_without_end_are_bounded(python_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> Iterator[AccountOpened]:
        while True:
            yield AccountOpened(owner="Ada" * 3_000)

    with monkeypatch.context() as patched:
        patched.setattr(ScriptedApplication, "command", staticmethod(endless))
        assert python_house.answered()[0] is Code.RESOURCE_EXHAUSTED
