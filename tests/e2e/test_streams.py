"""Subscriptions as clients of a running service see them."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    SubscribeAllRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.client import Bank
from tests.running_service import BankHandlers, RunningService


@pytest.fixture(scope="module")
def streaming(handlers: BankHandlers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with all doors open."""
    settings = {**handlers.settings, "COS_READ_SIDE_ENABLED": "false", "COS_SUBSCRIPTION_ENABLED": "true"}
    service = RunningService(tmp_path_factory.mktemp("data"), settings)
    try:
        service.start()
        yield service
    finally:
        service.end()


async def revisions(call, wanted: int) -> list[int]:  # type: ignore[no-untyped-def]
    """Of the first messages of a stream."""
    found = []
    async for message in call:
        found.append(message.meta.revision_number)
        if len(found) == wanted:
            break
    return found


async def test_an_entitys_events_stream_from_the_past_into_the_present(streaming: RunningService) -> None:
    async with grpc.aio.insecure_channel(streaming.address) as channel:
        bank, service = Bank(channel), ChiefOfStateServiceStub(channel)
        await bank.open("streamed", "Ada")
        for _ in range(4):
            await bank.deposit("streamed", 1)
        call = service.Subscribe(
            SubscribeRequest(entity_id="streamed"), metadata=[("x-cos-from-revision", "3")], timeout=30
        )
        assert await revisions(call, 3) == [3, 4, 5]
        for _ in range(3):
            await bank.deposit("streamed", 1)
        assert await revisions(call, 3) == [6, 7, 8]
        call.cancel()


async def test_all_events_stream_and_a_client_resumes_where_it_left(streaming: RunningService) -> None:
    async with grpc.aio.insecure_channel(streaming.address) as channel:
        bank, service = Bank(channel), ChiefOfStateServiceStub(channel)
        names = {f"resumed-{n}" for n in range(5)}
        for name in names:
            await bank.open(name, "Ada")
        seen, after = [], 0
        while len(seen) < 5:
            call = service.SubscribeAll(
                SubscribeAllRequest(), metadata=[("x-cos-from-offset", str(after))], timeout=30
            )
            message = await call.read()
            call.cancel()
            after = int.from_bytes(b"") if not message.meta.data else offset_of(message)
            if message.meta.entity_id in names:
                seen.append(message.meta.entity_id)
        assert sorted(seen) == sorted(names)


def offset_of(message) -> int:  # type: ignore[no-untyped-def]
    from google.protobuf.wrappers_pb2 import UInt64Value

    value = UInt64Value()
    assert message.meta.data["cos_ray.offset"].Unpack(value)
    return value.value


async def test_unsubscribing_over_another_connection_completes_the_stream(streaming: RunningService) -> None:
    id_ = str(uuid.uuid4())
    async with (
        grpc.aio.insecure_channel(streaming.address) as channel,
        grpc.aio.insecure_channel(streaming.address) as other,
    ):
        bank = Bank(other)
        await bank.open("unsubscribed", "Ada")
        call = ChiefOfStateServiceStub(channel).Subscribe(
            SubscribeRequest(entity_id="unsubscribed", subscription_id=id_),
            metadata=[("x-cos-from-revision", "1")],
            timeout=30,
        )
        assert (await call.read()).subscription_id == id_
        reply = await ChiefOfStateServiceStub(other).Unsubscribe(UnsubscribeRequest(subscription_id=id_))
        assert reply.subscription_id == id_
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_place_that_makes_no_sense_is_refused(streaming: RunningService) -> None:
    async with grpc.aio.insecure_channel(streaming.address) as channel:
        call = ChiefOfStateServiceStub(channel).Subscribe(
            SubscribeRequest(entity_id="a"), metadata=[("x-cos-from-revision", "one")], timeout=30
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "x-cos-from-revision is 'one'; allowed: a whole number from 0"


async def test_a_service_that_stops_ends_its_streams_so_that_clients_come_back(
    handlers: BankHandlers, tmp_path: Path, streaming: RunningService
) -> None:
    async with grpc.aio.insecure_channel(streaming.address) as channel:
        bank = Bank(channel)
        await bank.open("drained", "Ada")
        calls = [
            ChiefOfStateServiceStub(channel).Subscribe(
                SubscribeRequest(entity_id="drained"), metadata=[("x-cos-from-revision", "1")]
            )
            for _ in range(20)
        ]
        for call in calls:
            await call.read()
        os.kill(streaming.pid, signal.SIGTERM)
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(call.read(), 20)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "subscribe again" in (ended.value.details() or "")
