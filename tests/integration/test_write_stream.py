"""The stream to a write handler: what it carries, and what becomes of calls when it breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any as Anything

import grpc
import grpc.aio
import pytest
from google.protobuf.any import pack as any_of
from google.rpc.status_pb2 import Status as RichStatus  # type: ignore[import-untyped]

from cos_ray.domain.errors import Code, HandlerFailed
from cos_ray.domain.messages import Header
from cos_ray.handlers import write_stream
from cos_ray.handlers.endpoints import GrpcEndpoint
from cos_ray.handlers.write_stream import METHOD
from cos_ray.ports import WriteHandler
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleCommandResponse, HandleEventResponse
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import (
    WriteSideHandlerServiceServicer,
    add_WriteSideHandlerServiceServicer_to_server,
)
from cos_ray.protocol.pb.cos_ray.v1.writestream_pb2 import WriteSideAnswers
from cos_ray.protocol.write_stream import WriteStreams, add_write_stream_to_server
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, AccountOpened
from tests.support.handler import ask, built, events_of, evolve

OPENED = any_of(AccountOpened(owner="Ada"))
Behaviour = Callable[[Anything], Awaitable[None]]


async def nothing_more(_context: Anything) -> None:
    """Answer at once."""


class Application(WriteSideHandlerServiceServicer):
    """Answers every command with one event, after doing what a test says."""

    def __init__(self) -> None:
        self.calls = 0
        self.first: Behaviour = nothing_more

    async def HandleCommand(self, request: Anything, context: Anything) -> HandleCommandResponse:
        self.calls += 1
        await self.first(context)
        return HandleCommandResponse(events=[OPENED])

    async def HandleEvent(self, request: Anything, context: Anything) -> HandleEventResponse:
        self.calls += 1
        await self.first(context)
        return HandleEventResponse(resulting_state=any_of(Account(owner="Ada", is_open=True)))


class Rig:
    """A server with one application for unary calls and another for streams, to tell which is called."""

    def __init__(self) -> None:
        self.unary, self.streamed = Application(), Application()
        self.server = grpc.aio.server()
        add_WriteSideHandlerServiceServicer_to_server(self.unary, self.server)
        self.streams: WriteStreams | None = None

    @asynccontextmanager
    async def calling(self, opened: bool = True) -> AsyncIterator[WriteHandler]:
        """The handler as the service calls it; `opened`: once it is called in a stream."""
        if opened:
            self.streams = add_write_stream_to_server(self.streamed, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        handler = built(GrpcEndpoint("127.0.0.1", port))
        try:
            if opened:
                await self.until_streamed(handler)
            yield handler
        finally:
            await handler.close()
            await self.server.stop(None)

    async def until_streamed(self, handler: WriteHandler) -> None:
        """Call until a call comes in the stream; then forget the counts."""
        await asked_until(handler, lambda: self.streamed.calls > 0)
        self.unary.calls = self.streamed.calls = 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        await asyncio.sleep(0.005)


async def asked_until(handler: WriteHandler, condition: Callable[[], bool]) -> int:
    """How many calls were answered until it held."""
    answered = 0

    async def asked() -> None:
        nonlocal answered
        while not condition():
            assert events_of(await ask(handler)) == [OPENED]
            answered += 1
            await asyncio.sleep(0.005)

    await asyncio.wait_for(asked(), 10)
    return answered


async def one_in_the_stream(handler: WriteHandler, rig: Rig) -> None:
    """Ask until one call came in a stream and was answered."""
    await asked_until(handler, lambda: rig.streamed.calls > 0)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


def raw_stream(server: grpc.aio.Server, serve: Callable[[Anything], Awaitable[None]]) -> None:
    """Serve the stream's method by hand, in bytes."""

    async def method(_requests: Anything, context: Anything) -> None:
        await serve(context)

    _, service, name = METHOD.split("/")
    methods: dict[str, Anything] = {name: grpc.stream_stream_rpc_method_handler(method)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))


async def test_both_functions_are_called_in_the_stream(rig: Rig) -> None:
    async with rig.calling() as handler:
        assert events_of(await ask(handler)) == [OPENED]
        await evolve(handler, AccountOpened(owner="Ada"))
        assert (rig.unary.calls, rig.streamed.calls) == (0, 2)


async def test_a_slow_call_holds_up_no_other(rig: Rig) -> None:
    release = asyncio.Event()

    async def first_waits(_context: Anything) -> None:
        if rig.streamed.calls == 1:
            await release.wait()

    async with rig.calling() as handler:
        rig.streamed.first = first_waits
        slow = asyncio.ensure_future(ask(handler))
        await asyncio.gather(*(ask(handler) for _ in range(200)))
        assert not slow.done()
        release.set()
        assert events_of(await slow) == [OPENED]
        assert (rig.unary.calls, rig.streamed.calls) == (0, 201)


async def test_headers_come_as_metadata(rig: Rig) -> None:
    seen: list[tuple[str, str | bytes]] = []

    async def look(context: Anything) -> None:
        seen.extend(context.invocation_metadata())
        assert 0 < context.time_remaining() <= 10

    async with rig.calling() as handler:
        rig.streamed.first = look
        await ask(handler, headers=(Header("X-Who", "ada"), Header("x-raw-bin", b"\0\xff")))
    assert seen == [("x-who", "ada"), ("x-raw-bin", b"\0\xff")]


async def test_a_refusal_arrives_with_its_details(rig: Rig) -> None:
    details = RichStatus(code=9, message="no").SerializeToString()

    async def refuse(context: Anything) -> None:
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION, "no", (("grpc-status-details-bin", details),)
        )

    async with rig.calling() as handler:
        rig.streamed.first = refuse
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler)
    status = caught.value.status
    assert (status.code, status.message, status.details) == (Code.FAILED_PRECONDITION, "no", details)


async def test_a_code_that_is_set_ends_the_call(rig: Rig) -> None:
    async def set_code(context: Anything) -> None:
        context.set_code(grpc.StatusCode.ALREADY_EXISTS)
        context.set_details("open already")

    async with rig.calling() as handler:
        rig.streamed.first = set_code
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler)
        assert rig.unary.calls == 0
    assert (caught.value.status.code, caught.value.status.message) == (Code.ALREADY_EXISTS, "open already")


class Whole(grpc.Status):
    """A status with details, as applications hand one to gRPC."""

    def __init__(self, rich: RichStatus) -> None:
        self.code = grpc.StatusCode.INVALID_ARGUMENT
        self.details = rich.message
        self.trailing_metadata = (("grpc-status-details-bin", rich.SerializeToString()),)


async def test_a_rich_status_arrives_whole(rig: Rig) -> None:
    rich = RichStatus(code=3, message="too little", details=[any_of(Account(owner="Ada"))])

    async def refuse(context: Anything) -> None:
        await context.abort_with_status(Whole(rich))

    async with rig.calling() as handler:
        rig.streamed.first = refuse
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler)
    status = caught.value.status
    assert (status.code, status.message) == (Code.INVALID_ARGUMENT, "too little")
    assert status.details == rich.SerializeToString()


async def test_a_method_that_raises_is_as_unknown_as_in_a_unary_call(rig: Rig) -> None:
    async def break_down(_context: Anything) -> None:
        raise ValueError("oh")

    async with rig.calling() as handler:
        rig.streamed.first = break_down
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler)
        assert rig.unary.calls == 0
    assert caught.value.status.code is Code.UNKNOWN
    assert caught.value.status.message == "Unexpected <class 'ValueError'>: oh"


async def test_a_call_that_is_not_answered_in_time_is_withdrawn(rig: Rig) -> None:
    cancelled = asyncio.Event()

    async def first_waits(_context: Anything) -> None:
        if rig.streamed.calls > 1:
            return
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with rig.calling() as handler:
        rig.streamed.first = first_waits
        slow = asyncio.ensure_future(ask(handler, timeout=0.5))
        # Another is answered meanwhile, so the stream is known to live.
        await until(lambda: rig.streamed.calls == 1)
        await ask(handler)
        with pytest.raises(HandlerFailed) as caught:
            await slow
        assert caught.value.status.code is Code.DEADLINE_EXCEEDED
        await asyncio.wait_for(cancelled.wait(), 5)
        assert rig.unary.calls == 0


async def test_what_a_broken_stream_leaves_is_asked_in_unary_calls(rig: Rig) -> None:
    broken = 0

    async def break_off(context: Anything) -> None:
        nonlocal broken
        await context.write(WriteSideAnswers().SerializeToString())
        while (octets := await context.read()) is not grpc.aio.EOF:
            if len(octets) > 0:
                broken += 1
                await context.abort(grpc.StatusCode.INTERNAL, "cut")

    raw_stream(rig.server, break_off)
    async with rig.calling(opened=False) as handler:
        assert await asked_until(handler, lambda: broken > 0) == rig.unary.calls


async def test_a_broken_stream_takes_of_the_time_for_the_unary_call(rig: Rig) -> None:
    broken = False

    async def break_off_late(context: Anything) -> None:
        nonlocal broken
        await context.write(WriteSideAnswers().SerializeToString())
        await context.read()
        await asyncio.sleep(0.3)
        broken = True
        await context.abort(grpc.StatusCode.INTERNAL, "cut")

    left: list[float] = []

    async def look(context: Anything) -> None:
        left.append(context.time_remaining())

    raw_stream(rig.server, break_off_late)
    async with rig.calling(opened=False) as handler:
        rig.unary.first = look
        await asked_until(handler, lambda: broken)
        # What tests ask with has ten seconds.
        assert left[-1] < 9.7
        assert left[0] > 9.7


async def test_what_garbage_answers_leave_is_asked_in_unary_calls(rig: Rig) -> None:
    garbled = 0

    async def garble(context: Anything) -> None:
        nonlocal garbled
        await context.write(WriteSideAnswers().SerializeToString())
        while await context.read() is not grpc.aio.EOF:
            garbled += 1
            await context.write(b"\xff\xff\xff")

    raw_stream(rig.server, garble)
    async with rig.calling(opened=False) as handler:
        assert await asked_until(handler, lambda: garbled > 0) == rig.unary.calls


async def test_a_handler_without_streams_is_asked_for_one_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_stream, "PAUSE", 0)
    wanted = 0

    async def unknown(context: Anything) -> None:
        nonlocal wanted
        wanted += 1
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method")

    raw_stream(rig.server, unknown)
    async with rig.calling(opened=False) as handler:
        await asked_until(handler, lambda: rig.unary.calls == 50)
        assert wanted == 1


async def test_an_old_stream_gives_way_to_a_new_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_stream, "AGE", 0.05)
    monkeypatch.setattr(write_stream, "PAUSE", 0)
    monkeypatch.setattr(write_stream, "LAST_WORD", 0)
    release = asyncio.Event()
    opened = ended = 0

    serve = WriteStreams.Handle

    async def counted(self: WriteStreams, requests: Anything, context: Anything) -> None:
        nonlocal opened, ended
        opened += 1
        try:
            await serve(self, requests, context)
        finally:
            ended += 1

    async def first_waits(_context: Anything) -> None:
        if rig.streamed.calls == 1:
            await release.wait()

    monkeypatch.setattr(WriteStreams, "Handle", counted)
    async with rig.calling() as handler:
        rig.streamed.first = first_waits
        slow = asyncio.ensure_future(one_in_the_stream(handler, rig))
        await until(lambda: rig.streamed.calls > 0)
        begun = opened
        # The old one waits for its last answer; calls go on meanwhile, in those that come after it.
        await asked_until(handler, lambda: opened >= begun + 3 and rig.streamed.calls > 3)
        assert not slow.done()
        release.set()
        await slow
        await asked_until(handler, lambda: ended >= begun)


async def test_a_stream_that_nobody_speaks_in_is_not_used(rig: Rig) -> None:
    async def silent(context: Anything) -> None:
        await asyncio.sleep(60)

    raw_stream(rig.server, silent)
    async with rig.calling(opened=False) as handler:
        for _ in range(3):
            assert events_of(await ask(handler, timeout=1)) == [OPENED]


async def test_a_handler_that_closes_its_streams_answers_what_it_took(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_stream, "PAUSE", 0)
    release = asyncio.Event()

    async def wait(_context: Anything) -> None:
        await release.wait()

    async with rig.calling() as handler:
        rig.streamed.first = wait
        asked = asyncio.ensure_future(ask(handler))
        await until(lambda: rig.streamed.calls > 0)
        assert rig.streams is not None
        closing = asyncio.ensure_future(rig.streams.close())
        await asyncio.sleep(0)  # it begins
        assert not closing.done()
        release.set()
        assert events_of(await asked) == [OPENED]
        await asyncio.wait_for(closing, 5)
        assert rig.unary.calls == 0
        # From here on, others are asked in unary calls.
        rig.streamed.calls = 0
        for _ in range(5):
            assert events_of(await ask(handler)) == [OPENED]
        assert (rig.unary.calls, rig.streamed.calls) == (5, 0)


async def test_a_handler_that_does_not_answer_keeps_no_stream_from_closing(rig: Rig) -> None:
    async def never(_context: Anything) -> None:
        await asyncio.sleep(60)

    async with rig.calling() as handler:
        rig.streamed.first = never
        asked = asyncio.ensure_future(ask(handler, timeout=2))
        await until(lambda: rig.streamed.calls > 0)
        assert rig.streams is not None
        await asyncio.wait_for(rig.streams.close(grace=0.1), 5)
        asked.cancel()


async def test_a_large_call_goes_alone(rig: Rig) -> None:
    async with rig.calling() as handler:
        await ask(handler, command=Account(owner="x" * 2_000_000))
        assert (rig.unary.calls, rig.streamed.calls) == (1, 0)


async def test_many_large_calls_and_answers_fit_through(rig: Rig) -> None:
    async with rig.calling() as handler:
        calls = (ask(handler, command=Account(owner="x" * 500_000)) for _ in range(40))
        answers = await asyncio.gather(*calls)
        assert all(events_of(answer) == [OPENED] for answer in answers)
        assert (rig.unary.calls, rig.streamed.calls) == (0, 40)


def test_a_handler_must_be_async() -> None:
    class Blocking(WriteSideHandlerServiceServicer):
        def HandleCommand(self, request: Anything, context: Anything) -> HandleCommandResponse:
            return HandleCommandResponse()

    with pytest.raises(TypeError, match=r"Blocking\.HandleCommand must be an async method"):
        WriteStreams(Blocking())


async def _odd_text(context: Anything) -> None:
    raise ValueError("hi \ud83d")


async def _untellable(context: Anything) -> None:
    class Untellable(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    raise Untellable


async def _cancelled(context: Anything) -> None:
    raise asyncio.CancelledError


async def _odd_code(context: Anything) -> None:
    context.set_code(99)
    context.set_details(None)


async def _odd_trailers(context: Anything) -> None:
    context.set_code(grpc.StatusCode.ABORTED)
    context.set_trailing_metadata([1, 2])


async def _surrogates_in_details(context: Anything) -> None:
    await context.abort(grpc.StatusCode.UNKNOWN, "hi \ud83d")


@pytest.mark.parametrize(
    "misbehaves",
    [_odd_text, _untellable, _cancelled, _odd_code, _odd_trailers, _surrogates_in_details],
)
async def test_whatever_a_handler_does_its_call_is_answered(rig: Rig, misbehaves: Behaviour) -> None:
    async with rig.calling() as handler:
        rig.streamed.first = misbehaves
        for call in (ask(handler), evolve(handler, AccountOpened(owner="Ada"))):
            with pytest.raises(HandlerFailed) as caught:
                await call
            assert caught.value.status.code is Code.UNKNOWN
        rig.streamed.first = nothing_more
        assert events_of(await ask(handler)) == [OPENED]
        assert rig.unary.calls == 0
