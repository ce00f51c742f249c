"""What no door could carry is not stored; what is stored already is delivered, or fails for all to see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any

from cos_ray.domain.errors import Code, DeliveryFailed, EventRefused
from cos_ray.domain.ids import CommandId, EntityId, ReadSideId, Revision, Shard
from cos_ray.domain.messages import Append, EventEnvelope, Header, Meta, Packed
from cos_ray.handlers.endpoints import (
    MESSAGE_LIMIT,
    GrpcEndpoint,
    HttpEndpoint,
    PythonEndpoint,
    largest_event,
)
from cos_ray.handlers.grpc_read import GrpcReadHandler
from cos_ray.handlers.http_read import HttpReadHandler
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.rows import encode
from cos_ray.protocol.codec import envelope_to_bytes, event_fields, meta_to_pb, unpack
from cos_ray.protocol.json_form import any_to_json, meta_to_json
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2 import HandleReadSideRequest, HandleReadSideResponse
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import SubscribeAllResponse
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleCommandRequest
from tests.integration.test_http_read_handler import Server as HttpServer

MEGABYTE = 1024 * 1024
YES = HandleReadSideResponse(successful=True).SerializeToString()


def large(event: int, state: int) -> EventEnvelope:
    """Its event and its state have about so many bytes."""

    def packed(octets: int) -> Packed:
        return Packed(Any(type_url="type.example/Large", value=b"x" * octets).SerializeToString())

    meta = Meta(EntityId("a"), Revision(1), None, (Header("x-who", "me"),))
    return EventEnvelope(packed(event), packed(state), meta, Revision(1))


def append_of(envelope: EventEnvelope) -> Append:
    return Append(EntityId("a"), Shard(0), CommandId("c"), Revision(0), (envelope,))


def filling(octets: int) -> EventEnvelope:
    """Of exactly so many bytes as it is stored."""
    envelope = large(octets // 2, octets // 2 - 1_000)
    missing = octets - len(envelope_to_bytes(envelope))
    return large(octets // 2, octets // 2 - 1_000 + missing)


async def test_an_event_too_large_with_its_state_is_refused_and_nothing_is_stored(database: Database) -> None:
    limit = largest_event(GrpcEndpoint("h", 1))
    journal = PostgresJournal(database, largest_event=limit)
    await journal.open()
    try:
        with pytest.raises(EventRefused) as caught:
            await journal.append(append_of(large(17 * MEGABYTE, 17 * MEGABYTE)))
        assert str(caught.value) == (
            "event 1 has 35651664 bytes with the state it leads to, 33546240 can be delivered;"
            " COS_HANDLER_MAX_MESSAGE_BYTES allows more"
        )
        assert await journal.newest(EntityId("a")) is None
        # One just as large as may be is taken.
        assert await journal.append(append_of(filling(limit))) == 1
    finally:
        await journal.close()


@pytest.mark.parametrize(
    "target", [GrpcEndpoint("h", 1), GrpcEndpoint("h", 1, message_limit=1024), PythonEndpoint("m:C")]
)
def test_whatever_may_be_stored_fits_into_every_message_that_shows_it(target) -> None:
    envelope = filling(largest_event(target))
    assert encode(append_of(envelope), largest_event=largest_event(target))
    fields = event_fields(envelope)
    meta = meta_to_pb(envelope.meta)
    messages = [
        HandleReadSideRequest(
            event=fields["event"], state=fields["resulting_state"], meta=meta, read_side_id="r" * 64
        ),
        SubscribeAllResponse(**fields, subscription_id="s" * 40),
        HandleCommandRequest(prior_state=unpack(envelope.resulting_state), prior_event_meta=meta),
    ]
    assert all(message.ByteSize() <= target.message_limit for message in messages)


def test_over_http_it_is_as_much_as_its_json_has_room_for() -> None:
    target = HttpEndpoint("h", 1)
    envelope = filling(largest_event(target))
    request = {
        "event": any_to_json(envelope.event),
        "state": any_to_json(envelope.resulting_state),
        "meta": meta_to_json(envelope.meta),
        "read_side_id": "r" * 64,
    }
    assert len(json.dumps(request)) <= target.message_limit


@asynccontextmanager
async def grpc_server(options: list[tuple[str, int]]) -> AsyncIterator[int]:
    """Confirms whatever it can receive."""

    async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return YES

    server = grpc.aio.server(options=options)
    method = grpc.unary_unary_rpc_method_handler(handle)
    service = "chief_of_state.v1.ReadSideHandlerService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"HandleReadSide": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def deliver(port: int) -> None:
    handler = GrpcReadHandler(GrpcEndpoint("127.0.0.1", port, sends_anything=True), timedelta(seconds=20))
    try:
        await handler.handle(ReadSideId("r"), Shard(0), large(17 * MEGABYTE, 17 * MEGABYTE))
    finally:
        await handler.close()


async def test_what_an_older_version_stored_is_delivered_to_a_handler_that_takes_it() -> None:
    async with grpc_server([("grpc.max_receive_message_length", -1)]) as port:
        await deliver(port)


async def test_a_handler_that_does_not_take_it_is_told_of_with_its_size() -> None:
    async with grpc_server([("grpc.max_receive_message_length", MESSAGE_LIMIT)]) as port:
        with pytest.raises(DeliveryFailed) as caught:
            await deliver(port)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert "(the event and its state have 35651634 bytes)" in caught.value.reason


async def test_over_http_it_is_delivered_as_well() -> None:
    server = HttpServer()
    async with server.listening() as port:
        target = HttpEndpoint("127.0.0.1", port, message_limit=MEGABYTE, sends_anything=True)
        handler = HttpReadHandler(target, timedelta(seconds=20))
        await handler.handle(ReadSideId("r"), Shard(0), large(MEGABYTE, MEGABYTE))
        await handler.close()
    assert len(server.requests) == 1
