"""What a library hands over for answers that are wrong on the wire: foreseen where it enters, and at once."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from google.protobuf.any import pack as any_of

from cos_ray.domain.errors import OUTCOME_UNKNOWN, Code, DeliveryFailed, HandlerFailed
from cos_ray.domain.ids import CommandId, EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import Command, EventEnvelope, Meta, Refused
from cos_ray.handlers.endpoints import GrpcEndpoint
from cos_ray.handlers.foreseen import UNFORESEEN, ForeseenWriteHandler
from cos_ray.handlers.grpc_read import GrpcReadHandler
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleCommandResponse
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import AccountOpened
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from cos_ray.writeside.entity import Entity
from tests.support import handler as kit
from tests.support.handler import ask, events_of, evolve
from tests.support.raw_http2 import OPENING, RawAnswer, RawHttp2Server, framed

OPENED = HandleCommandResponse(events=[any_of(AccountOpened(owner="Ada"))])
GOOD = framed(OPENED.SerializeToString())
ENDED = (("grpc-status", "0"),)
UNIMPLEMENTED = RawAnswer(headers=(*OPENING, ("grpc-status", "12")), trailers=None)

NO_MESSAGE = {
    "status 0 and no message": RawAnswer(),
    "status 0 in the headers": RawAnswer(headers=(*OPENING, *ENDED), trailers=None),
    "half a message": RawAnswer(data=GOOD[:-1]),
    "half a frame": RawAnswer(data=b"\0\0"),
}
WRONG = {
    **NO_MESSAGE,
    "bytes that are no message": RawAnswer(data=framed(b"\xff")),
    "compressed, and broken": RawAnswer(headers=(*OPENING, ("grpc-encoding", "gzip")), data=b"\1\0\0\0\3abc"),
    "details that are no base64": RawAnswer(
        trailers=(("grpc-status", "9"), ("grpc-status-details-bin", "!!!"))
    ),
    "a reset": RawAnswer(resets=True),
    "a message and a reset": RawAnswer(data=GOOD, resets=True),
}
NO_NUMBER = {
    "a status that is no number": RawAnswer(data=GOOD, trailers=(("grpc-status", "abc"),)),
    "a status below 0": RawAnswer(data=GOOD, trailers=(("grpc-status", "-1"),)),
}
"""After one of these, gRPC reads no status on that connection any more: each later call ends the same."""
TOLD = {
    "a status that there is not": (
        RawAnswer(trailers=(("grpc-status", "99"), ("grpc-message", "odd"))),
        "odd",
    ),
    "no status at all": (RawAnswer(trailers=(("x", "y"),)), "No status received"),
    "a message in Latin-1": (
        RawAnswer(trailers=(("grpc-status", "2"), ("grpc-message", b"gr\xf6\xdfe"))),
        "größe",
    ),
    "half an emoji": (
        RawAnswer(trailers=(("grpc-status", "2"), ("grpc-message", b"hi %ed%a0%bd"))),
        "hi í\xa0½",
    ),
    "percent signs that stand for nothing": (
        RawAnswer(trailers=(("grpc-status", "2"), ("grpc-message", b"100%zz%"))),
        "100%zz%",
    ),
    "twelve KB": (
        RawAnswer(trailers=(("grpc-status", "2"), ("grpc-message", b"a" * 12_000))),
        "a" * 9_999 + "…",
    ),
    "trailers that are no ASCII": (
        RawAnswer(trailers=(("grpc-status", "2"), ("grpc-message", "odd"), ("x-odd", b"gr\xf6\xdfe"))),
        "odd",
    ),
}
serials = itertools.count()


def server_of(answer: RawAnswer) -> RawHttp2Server:
    """A handler that serves no stream."""
    return RawHttp2Server(answer, {"Handle": UNIMPLEMENTED})


@pytest.mark.parametrize("what", WRONG)
async def test_what_breaks_the_protocol_is_internal_and_the_next_call_works(what: str) -> None:
    server = server_of(WRONG[what])
    async with server.listening() as port:
        handler = kit.built(GrpcEndpoint("127.0.0.1", port))
        for call in (ask(handler), evolve(handler, AccountOpened())):
            with pytest.raises(HandlerFailed) as caught:
                await call
            assert caught.value.status.code is Code.INTERNAL
            assert caught.value.status.message
            assert "Traceback" not in caught.value.status.message
        server.answer = RawAnswer(data=GOOD)
        assert len(events_of(await ask(handler))) == 1
        await handler.close()


@pytest.mark.parametrize("what", NO_NUMBER)
async def test_a_status_that_is_no_number_is_internal(what: str) -> None:
    async with server_of(NO_NUMBER[what]).listening() as port:
        handler = kit.built(GrpcEndpoint("127.0.0.1", port))
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler)
        assert caught.value.status.code is Code.INTERNAL
        await handler.close()


@pytest.mark.parametrize("what", TOLD)
async def test_what_a_handler_says_arrives_as_far_as_it_is_text(what: str) -> None:
    answer, text = TOLD[what]
    async with server_of(answer).listening() as port:
        handler = kit.built(GrpcEndpoint("127.0.0.1", port))
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler)
        assert (caught.value.status.code, caught.value.status.message) == (Code.UNKNOWN, text)
        await handler.close()


async def test_a_refusal_with_more_trailers_than_grpc_takes_stays_that_refusal() -> None:
    trailers = (("grpc-status", "9"), ("grpc-message", "no"), ("grpc-status-details-bin", "CAo" * 12_000))
    async with server_of(RawAnswer(trailers=trailers)).listening() as port:
        handler = kit.built(GrpcEndpoint("127.0.0.1", port))
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler)
        assert (caught.value.status.code, caught.value.status.message) == (Code.FAILED_PRECONDITION, "no")
        await handler.close()


@pytest.mark.parametrize("what", NO_MESSAGE)
async def test_an_entity_asks_a_handler_that_says_nothing_once_and_stores_nothing(what: str) -> None:
    server, journal = server_of(NO_MESSAGE[what]), MemoryJournal()
    async with server.listening() as port:
        handler = kit.built(GrpcEndpoint("127.0.0.1", port))
        entity = Entity(EntityId("ada"), Shard(0), handler, journal, SystemClock())
        command = Command(EntityId("ada"), kit.packed(kit.OPEN), CommandId(f"c{next(serials)}"), 10.0)
        reply = await entity.process(command)
        assert isinstance(reply, Refused)
        assert reply.status.code is Code.INTERNAL
        assert reply.status != OUTCOME_UNKNOWN
        assert [path.rpartition("/")[2] for path in server.requests].count("HandleCommand") == 1
        assert await journal.newest(EntityId("ada")) is None
        await handler.close()


@pytest.mark.parametrize("what", WRONG)
async def test_a_delivery_that_is_answered_so_has_failed(what: str) -> None:
    async with server_of(WRONG[what]).listening() as port:
        handler = GrpcReadHandler(GrpcEndpoint("127.0.0.1", port), timedelta(seconds=10))
        event = kit.packed(kit.OPEN)
        envelope = EventEnvelope(event, event, Meta(kit.ADA, Revision(1)), Revision(1))
        with pytest.raises(DeliveryFailed) as caught:
            await handler.handle(ReadSideId("r"), Shard(0), envelope)
        assert caught.value.code is Code.INTERNAL
        assert "cannot be sent" not in caught.value.reason
        await handler.close()


STREAMS = {
    **{what: answer for what, answer in WRONG.items() if what != "bytes that are no message"},
    "bytes that are no answers": RawAnswer(data=framed(b"\xff")),
    "an empty answer, then its end": RawAnswer(data=framed(b"")),
}


@pytest.mark.parametrize("what", STREAMS)
async def test_a_stream_that_is_answered_so_leaves_its_calls_to_unary_ones(what: str) -> None:
    server = RawHttp2Server(RawAnswer(data=GOOD), {"Handle": STREAMS[what]})
    async with server.listening() as port:
        handler = kit.built(GrpcEndpoint("127.0.0.1", port))
        for _ in range(5):
            assert len(events_of(await ask(handler, timeout=5))) == 1
        await handler.close()


async def test_what_nobody_foresaw_is_internal() -> None:
    class Odd:
        async def handle_command(self, *_: object) -> object:
            raise KeyError("odd")

        async def handle_event(self, *_: object) -> object:
            raise TypeError

    handler = ForeseenWriteHandler(Odd())  # type: ignore[arg-type]
    for call in (ask(handler), evolve(handler, AccountOpened())):
        with pytest.raises(HandlerFailed) as caught:
            await call
        assert caught.value.status == UNFORESEEN


async def test_nor_is_it_where_the_service_builds_its_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr("cos_ray.handlers.grpc_write.decide", fail)
    async with server_of(RawAnswer(data=GOOD)).listening() as port:
        handler = kit.built(GrpcEndpoint("127.0.0.1", port))
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler)
        assert caught.value.status == UNFORESEEN
        await handler.close()
