"""
One trip for both functions: handlers may say ahead which states their events lead to.

Whether one does is not to be seen in what is stored and answered.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any as Anything
from typing import ClassVar

import grpc
import grpc.aio
import pytest
from google.protobuf.any import pack as any_of
from google.protobuf.wrappers_pb2 import Int64Value

from cos_ray import Code, Rejected
from cos_ray.domain.decisions import Persist
from cos_ray.domain.errors import Status
from cos_ray.domain.ids import CommandId, Revision, Shard
from cos_ray.domain.messages import (
    Accepted,
    Command,
    EntityState,
    EventEnvelope,
    Header,
    Meta,
    Packed,
    Refused,
    Reply,
)
from cos_ray.domain.types import AcceptedTypes, EntityPolicy
from cos_ray.handlers import python_write
from cos_ray.handlers.endpoints import GrpcEndpoint, PythonEndpoint
from cos_ray.ports import WriteHandler
from cos_ray.protocol import write_stream
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleCommandResponse, HandleEventResponse
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2_grpc import (
    WriteSideHandlerServiceServicer,
    add_WriteSideHandlerServiceServicer_to_server,
)
from cos_ray.protocol.write_stream import add_write_stream_to_server
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.writeside.entity import Entity
from tests.support.handler import ADA, UNBORN, built, packed, unpacked

FIRST = Meta(ADA, Revision(1), datetime(2026, 5, 1, tzinfo=timezone.utc), (Header("x-who", "ada"),))
WHO = (Header("x-who", "ada"),)
ASKED = Header("x-asked", "yes")
serials = itertools.count()


class Sums:
    """Command n leads to the events 1 to n, whose sum is the state. What happens is noted in `calls`."""

    calls: ClassVar[list[object]] = []
    fails_at: ClassVar[int | None] = None
    """The event that no state comes of."""

    def handle_command(self, command: Int64Value, prior_state: Int64Value, meta: object) -> list[Int64Value]:
        self.calls.append("command")
        return [Int64Value(value=n + 1) for n in range(command.value)]

    def handle_event(self, event: Int64Value, prior_state: Int64Value, meta: Meta) -> Int64Value:
        self.calls.append(meta)
        if event.value == self.fails_at:
            raise Rejected(Code.OUT_OF_RANGE, "too much")
        return Int64Value(value=prior_state.value + event.value)


class AsyncSums(Sums):
    """The same, async."""

    async def handle_command(  # type: ignore[override]
        self, command: Int64Value, prior_state: Int64Value, meta: object
    ) -> list[Int64Value]:
        return super().handle_command(command, prior_state, meta)

    async def handle_event(  # type: ignore[override]
        self, event: Int64Value, prior_state: Int64Value, meta: Meta
    ) -> Int64Value:
        return super().handle_event(event, prior_state, meta)


class GrpcSums(WriteSideHandlerServiceServicer):
    """The same over gRPC."""

    def __init__(self) -> None:
        self._sums = Sums()

    async def HandleCommand(self, request: Anything, context: Anything) -> HandleCommandResponse:
        command, prior = Int64Value(), Int64Value()
        request.command.Unpack(command)
        # A working copy, say: the request is the handler's own.
        request.prior_state.Pack(Int64Value(value=1_000))
        return HandleCommandResponse(
            events=[any_of(event) for event in self._sums.handle_command(command, prior, None)]
        )

    async def HandleEvent(self, request: Anything, context: Anything) -> HandleEventResponse:
        event, prior, meta = Int64Value(), Int64Value(), request.event_meta
        request.event.Unpack(event)
        request.prior_state.Unpack(prior)
        assert (ASKED.key, ASKED.value) not in tuple(context.invocation_metadata())
        date = meta.revision_date.ToDatetime(timezone.utc)
        headers = tuple(Header(header.key, header.string_value) for header in meta.headers)
        told = Meta(meta.entity_id, Revision(meta.revision_number), date, headers)
        try:
            state = self._sums.handle_event(event, prior, told)
        except Rejected as error:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, error.message)
        return HandleEventResponse(resulting_state=any_of(state))


@pytest.fixture(autouse=True)
def fresh() -> None:
    Sums.calls.clear()
    Sums.fails_at = None


@asynccontextmanager
async def handler_of(kind: str) -> AsyncIterator[WriteHandler]:
    """Of a kind that looks ahead: "thread", "stream"; or that does not: "async", "unary"."""
    async with AsyncExitStack() as stack:
        if kind in ("thread", "async"):
            class_ = Sums if kind == "thread" else AsyncSums
            yield built(PythonEndpoint(f"{__name__}:{class_.__name__}"))
            return
        server, application = grpc.aio.server(), GrpcSums()
        add_WriteSideHandlerServiceServicer_to_server(application, server)
        if kind == "stream":
            streams = add_write_stream_to_server(application, server)
            stack.push_async_callback(streams.close)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, None)
        handler = built(GrpcEndpoint("127.0.0.1", port))
        stack.push_async_callback(handler.close)
        if kind == "stream":
            deadline = time.monotonic() + 10
            while not (await decided(handler, 1)).states:
                assert time.monotonic() < deadline, "no stream was opened"
                await asyncio.sleep(0.005)
        Sums.calls.clear()
        yield handler


async def decided(handler: WriteHandler, number: int, prior: EntityState = UNBORN) -> Persist:
    """What the handler says to a command, given the metadata of the first event."""
    command = packed(Int64Value(value=number))
    first = replace(FIRST, revision=Revision(prior.meta.revision + 1))
    decision = await handler.handle_command(command, prior, (ASKED,), 10, first)
    assert isinstance(decision, Persist)
    return decision


def entity_of(handler: WriteHandler, journal: MemoryJournal, policy: EntityPolicy | None = None) -> Entity:
    return Entity(ADA, Shard(0), handler, journal, SystemClock(), policy or EntityPolicy())


async def processed(entity: Entity, number: int) -> Reply:
    command = packed(Int64Value(value=number))
    id_ = CommandId(f"c{next(serials)}")
    return await entity.process(Command(ADA, command, id_, 10.0, propagated=(ASKED,), persisted=WHO))


async def history(journal: MemoryJournal) -> list[EventEnvelope]:
    return [event.envelope for event in await journal.after(Shard(0), 0, 100)]  # type: ignore[arg-type]


def number_in(state: Packed) -> int:
    value: int = unpacked(state, Int64Value).value
    return value


@pytest.mark.parametrize("kind", ["thread", "stream"])
async def test_a_handler_that_looks_ahead_says_what_it_would_say_when_asked(kind: str) -> None:
    async with handler_of(kind) as handler:
        decision = await decided(handler, 3)
        assert [number_in(state) for state in decision.states] == [1, 3, 6]
        ahead = list(Sums.calls)
        Sums.calls.clear()
        state = UNBORN.state
        for number, event in enumerate(decision.events):
            meta = replace(FIRST, revision=Revision(1 + number))
            state = await handler.handle_event(event, state, meta, 10)
            assert state == decision.states[number]
        # With the same metadata, too.
        assert ahead == ["command", *Sums.calls]


@pytest.mark.parametrize("kind", ["thread", "async", "stream", "unary"])
async def test_it_cannot_be_seen_in_what_is_stored_whether_a_handler_looks_ahead(kind: str) -> None:
    journal = MemoryJournal()
    async with handler_of(kind) as handler:
        entity = entity_of(handler, journal)
        for number in (2, 1):
            assert isinstance(await processed(entity, number), Accepted)
    stored = await history(journal)
    assert [number_in(envelope.resulting_state) for envelope in stored] == [1, 3, 4]
    assert [(e.meta.revision, e.sequence_number, e.meta.headers) for e in stored] == [
        (n, n, WHO) for n in (1, 2, 3)
    ]
    told = [call for call in Sums.calls if call != "command"]
    assert told == [envelope.meta for envelope in stored]


@pytest.mark.parametrize("kind", ["thread", "async", "stream", "unary"])
async def test_an_event_that_fails_is_refused_in_the_same_words_whether_a_handler_looks_ahead(
    kind: str,
) -> None:
    journal = MemoryJournal()
    Sums.fails_at = 2
    async with handler_of(kind) as handler:
        reply = await processed(entity_of(handler, journal), 3)
    assert reply == Refused(Status(Code.OUT_OF_RANGE, "too much"))
    assert await history(journal) == []


@pytest.mark.parametrize("kind", ["thread", "stream"])
async def test_types_of_states_that_were_said_ahead_are_validated(kind: str) -> None:
    types = AcceptedTypes(frozenset({"google.protobuf.Int64Value"}), frozenset({"shop.v1.Cart"}))
    journal = MemoryJournal()
    async with handler_of(kind) as handler:
        reply = await processed(entity_of(handler, journal, EntityPolicy(types)), 1)
    invalid = "invalid state: type.googleapis.com/google.protobuf.Int64Value"
    assert reply == Refused(Status(Code.INVALID_ARGUMENT, invalid))
    assert await history(journal) == []


@pytest.mark.parametrize("kind", ["thread", "stream"])
async def test_a_handler_without_time_to_spare_does_not_look_ahead(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with handler_of(kind) as handler:
        monkeypatch.setattr(python_write, "LOOK_AHEAD_WITHIN", -1)
        monkeypatch.setattr(write_stream, "LOOK_AHEAD_WITHIN", -1)
        assert (await decided(handler, 3)).states == ()
        journal = MemoryJournal()
        assert isinstance(await processed(entity_of(handler, journal), 3), Accepted)
    assert [number_in(envelope.resulting_state) for envelope in await history(journal)] == [1, 3, 6]


async def test_large_states_are_not_piled_up_in_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with handler_of("stream") as handler:
        monkeypatch.setattr(write_stream, "MOST_OCTETS", 1)
        assert (await decided(handler, 3)).states == ()
        monkeypatch.setattr(write_stream, "MOST_OCTETS", 130)
        assert len((await decided(handler, 3)).states) == 2
