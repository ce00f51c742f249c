"""Streams, HTTP, the past and reflection, as independent clients of a running service see them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.wrappers_pb2 import UInt64Value
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cos_ray.ingress.service import SERVICES
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    SubscribeAllRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.samples.bank.client import Bank
from cos_ray.samples.bank.pb.bank.v1 import bank_pb2
from tests.support.running_service import BankHandlers, RunningService

PROTOS = Path(__file__).resolve().parents[2] / "protos"


@pytest.fixture(scope="module")
def open_service(
    handlers: BankHandlers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """A service with all doors open, and the bank's protos."""
    folder = tmp_path_factory.mktemp("doors")
    bank = FileDescriptorSet(file=[FileDescriptorProto.FromString(bank_pb2.DESCRIPTOR.serialized_pb)])
    (folder / "bank.binpb").write_bytes(bank.SerializeToString())
    settings = {
        **handlers.settings,
        "COS_READ_SIDE_ENABLED": "false",
        "COS_SUBSCRIPTION_ENABLED": "true",
        "COS_SUBSCRIPTION_WAITING_EVENTS": "20",
        # So that streams are ended from another process than the one they are in.
        "COS_INGRESS_REPLICAS": "2",
        "COS_SERVER_PROTOCOL": "both",
        "COS_ERASURE_ENABLED": "true",
        "COS_DESCRIPTOR_SETS": str(folder / "bank.binpb"),
    }
    service = RunningService(folder / "data", settings)
    try:
        service.start()
        yield service
    finally:
        service.end()


async def opened(service: RunningService, account: str, deposits: int) -> None:
    """An account with so many events more than one."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        bank = Bank(channel)
        await bank.open(account, "Ada")
        for _ in range(deposits):
            await bank.deposit(account, 1)


async def revisions(call, wanted: int) -> list[int]:  # type: ignore[no-untyped-def]
    """Of the first messages of a stream."""
    found = []
    async for message in call:
        found.append(message.meta.revision_number)
        if len(found) == wanted:
            break
    return found


async def test_an_entitys_events_stream_from_the_past_into_the_present(open_service: RunningService) -> None:
    async with grpc.aio.insecure_channel(open_service.address) as channel:
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


async def test_all_events_stream_and_a_client_resumes_where_it_left(open_service: RunningService) -> None:
    async with grpc.aio.insecure_channel(open_service.address) as channel:
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
            after = offset_of(message)
            if message.meta.entity_id in names:
                seen.append(message.meta.entity_id)
        assert sorted(seen) == sorted(names)


def offset_of(message) -> int:  # type: ignore[no-untyped-def]
    value = UInt64Value()
    assert message.meta.data["cos_ray.offset"].Unpack(value)
    return value.value


async def test_unsubscribing_over_another_connection_completes_the_stream(
    open_service: RunningService,
) -> None:
    id_ = str(uuid.uuid4())
    async with (
        grpc.aio.insecure_channel(open_service.address) as channel,
        grpc.aio.insecure_channel(open_service.address) as other,
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


async def test_a_client_that_does_not_read_is_cut_and_misses_nothing_when_it_comes_back(
    open_service: RunningService,
) -> None:
    async with (
        grpc.aio.insecure_channel(open_service.address) as channel,
        grpc.aio.insecure_channel(open_service.address) as other,
    ):
        # Its state is large: what lies between the service and the client is soon full.
        await Bank(other).open("unread", "Ada" * 100_000)
        service, request = ChiefOfStateServiceStub(channel), SubscribeRequest(entity_id="unread")
        call = service.Subscribe(request, metadata=[("x-cos-from-revision", "1")], timeout=40)
        seen = [(await call.read()).meta.revision_number]
        for _ in range(80):
            await Bank(other).deposit("unread", 1)
        assert await read_until_the_end(call, seen) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(seen) < 81
        place = [("x-cos-from-revision", str(seen[-1] + 1))]
        call = service.Subscribe(request, metadata=place, timeout=30)
        seen += await revisions(call, 81 - len(seen))
        assert seen == list(range(1, 82))


async def read_until_the_end(call, seen: list[int]) -> grpc.StatusCode:  # type: ignore[no-untyped-def]
    """Adds each revision; how it ended."""
    try:
        while (message := await call.read()) is not grpc.aio.EOF:
            seen.append(message.meta.revision_number)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_a_place_that_makes_no_sense_is_refused(open_service: RunningService) -> None:
    async with grpc.aio.insecure_channel(open_service.address) as channel:
        call = ChiefOfStateServiceStub(channel).Subscribe(
            SubscribeRequest(entity_id="a"), metadata=[("x-cos-from-revision", "one")], timeout=30
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "x-cos-from-revision is 'one'; allowed: a whole number from 0"


def test_commands_states_history_and_erasure_over_http(open_service: RunningService) -> None:
    base = f"http://127.0.0.1:{open_service.http_port}"
    with httpx.Client(base_url=base, timeout=20) as client:
        opened = {"@type": "type.googleapis.com/bank.v1.OpenAccount", "owner": "Ada", "opening_balance": "7"}
        path = "/v1/commands/http%2F1/process?any=json"
        reply = client.post(path, json={"command": opened}, headers={"x-cos-expected-revision": "0"})
        assert reply.json()["meta"]["entity_id"] == "http/1"
        assert reply.json()["state"]["balance"] == "7"
        again = client.post(path, json={"command": opened}, headers={"x-cos-expected-revision": "0"})
        assert (again.status_code, again.headers["x-cos-actual-revision"]) == (409, "2")
        assert again.json()["error"] == "ABORTED: expected revision 0, actual 2"
        refused = client.post(path, json={"command": opened})
        assert refused.json()["error"].startswith("ALREADY_EXISTS: ") or refused.status_code >= 400
        assert client.get("/v1/entities/http%2F1/state").json()["meta"]["revision_number"] == 2
        events = client.get("/v1/entities/http%2F1/events?any=json").json()["events"]
        assert [event["meta"]["revision_number"] for event in events] == [1, 2]
        assert client.get("/v1/entities?prefix=http").json()["entities"][0]["entity_id"] == "http/1"
        assert client.get("/v1/entities/nobody/state").status_code == 404
        assert client.get("/ready").json() == {"status": "ready"}
        assert client.get("/openapi.json").json()["info"]["title"] == "cos_ray"
        erased = client.delete("/v1/entities/http%2F1?reason=test").json()
        assert erased["events"] == 3
        assert client.delete("/v1/entities/http%2F1").json() == erased
        gone = client.post(path, json={"command": opened})
        assert (gone.status_code, gone.json()["error"]) == (412, "FAILED_PRECONDITION: the entity is erased")
        past = client.get("/v1/entities/http%2F1/events").text
        assert "QWRh" not in past


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_a_stream_of_events(open_service: RunningService) -> None:
    asyncio.run(opened(open_service, "curled", deposits=1))
    url = f"http://127.0.0.1:{open_service.http_port}/v1/entities/curled/events/stream?from_revision=1"
    with subprocess.Popen(["curl", "-sN", url], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        lines = []
        while sum(line.startswith("data: ") for line in lines) < 2:
            lines.append(curl.stdout.readline().rstrip())
        curl.terminate()
    assert lines[0] == ": open"
    assert [line for line in lines if line.startswith("id: ")] == ["id: 1", "id: 2"]


def test_reflection_lists_the_services_and_shows_the_application_s_types(
    open_service: RunningService,
) -> None:
    with grpc.insecure_channel(open_service.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) >= set(SERVICES)
        file = database.FindFileContainingSymbol("bank.v1.Account")
        assert "Account" in {message.name for message in file.message_type}


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs node and npm")
def test_a_node_client_streams_and_unsubscribes(open_service: RunningService, tmp_path: Path) -> None:
    packages = ["@grpc/grpc-js@1", "@grpc/proto-loader@0.7"]
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", *packages]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=90).returncode:
        pytest.skip("npm cannot install @grpc/grpc-js here")
    asyncio.run(opened(open_service, "from node", deposits=2))
    shutil.copy(Path(__file__).with_name("outside_client.js"), tmp_path)
    done = subprocess.run(
        ["node", "outside_client.js", open_service.address, str(PROTOS), "from node"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "INVALID_ARGUMENT: x-cos-from-revision is 'one'; allowed: a whole number from 0",
        "unsubscribed from node",
        "1 2 3 completed",
    ], done.stderr


async def test_a_service_that_stops_ends_its_streams_so_that_clients_come_back(
    open_service: RunningService,
) -> None:
    async with grpc.aio.insecure_channel(open_service.address) as channel:
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
        os.kill(open_service.pid, signal.SIGTERM)
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(call.read(), 20)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "subscribe again" in (ended.value.details() or "")
