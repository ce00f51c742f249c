"""A replica's own ports: what clients get, and what slow, deaf or hostile ones cannot do to others."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import struct
import time

import grpc
import grpc.aio
import httpx
import psutil
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.any_pb2 import Any as PbAny
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.messages import Refused
from cos_ray.ingress.command_policy import CommandPolicy
from cos_ray.ingress.service import SERVICES
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    ProcessCommandRequest,
    SubscribeRequest,
)
from tests.support.front_door import COMMAND, FrontDoor, answers, eventually, front_door
from tests.support.journal import append_of
from tests.unit.test_authorization import SHOP, TOKEN

STATE = GetStateRequest(entity_id="a/b")


async def test_commands_states_and_health_are_answered_on_both_ports() -> None:
    async with front_door() as door, door.client() as client, httpx.AsyncClient() as http:
        reply = await client.ProcessCommand(COMMAND, timeout=5)
        assert reply.meta.revision_number == 2
        assert (await client.GetState(STATE, timeout=5)).state == reply.state
        form = (await http.get(f"{door.http}/v1/entities/a%2Fb/state")).json()
        assert form["meta"]["revision_number"] == 2
        assert (await http.get(f"{door.http}/-/healthz")).status_code == 200


async def test_a_refusal_has_its_code_message_details_and_trailers() -> None:
    refusal = Status(Code.ABORTED, "expected 3", b"\x08\x0a", (("x-cos-actual-revision", "5"),))
    async with front_door() as door, door.client() as client:
        door.gateway.answer = Refused(refusal)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.ProcessCommand(COMMAND, timeout=5)
        trailers = dict(refused.value.trailing_metadata() or ())
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.ABORTED, "expected 3")
        assert trailers["x-cos-actual-revision"] == "5"
        assert trailers["grpc-status-details-bin"] == b"\x08\x0a"


async def test_a_request_that_is_no_message_is_an_invalid_argument() -> None:
    async with front_door() as door, grpc.aio.insecure_channel(door.grpc) as channel:
        call = channel.unary_unary("/chief_of_state.v1.ChiefOfStateService/ProcessCommand")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\xff\xff\xff", timeout=5)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == (
            "the request is not a valid chief_of_state.v1.ProcessCommandRequest"
        )


@pytest.mark.parametrize("given", [0.5, None])
async def test_a_command_has_the_time_that_its_client_gives_it_and_no_more_than_the_service_does(
    given: float | None,
) -> None:
    async with front_door(policy=CommandPolicy(command_timeout=5.0)) as door, door.client() as client:
        await client.ProcessCommand(COMMAND, timeout=given)
        (command,) = door.gateway.commands
        # gRPC rounds a deadline up on its way.
        assert 0 < command.budget <= (given or 5.0) + 0.01
        assert given is not None or command.budget == 5.0


async def test_over_http_the_time_is_a_header_and_what_is_no_time_is_refused() -> None:
    async with front_door() as door, httpx.AsyncClient() as http:
        path = f"{door.http}/v1/commands/a/process"
        assert (await http.post(path, json={}, headers={"x-cos-timeout-ms": "250"})).status_code == 200
        assert [command.budget for command in door.gateway.commands] == [0.25]
        for wrong in ("0", "soon", "-1"):
            reply = await http.post(path, json={}, headers={"x-cos-timeout-ms": wrong})
            assert (reply.status_code, "x-cos-timeout-ms" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_when_the_client_goes_its_command_is_given_up(protocol: str) -> None:
    async with front_door() as door, door.client() as client:
        door.gateway.gate.clear()
        if protocol == "grpc":
            call = asyncio.ensure_future(_process(client))
        else:
            call = asyncio.ensure_future(_post(f"{door.http}/v1/commands/a/process"))
        await eventually(lambda: door.replica.in_hand == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await eventually(lambda: door.replica.in_hand == 0)


@pytest.mark.parametrize("by_force", [True, False])
@pytest.mark.parametrize("more", [1, 500])
async def test_a_client_that_goes_is_noticed_with_requests_waiting_behind_its_command(
    by_force: bool, more: int
) -> None:
    head = f"POST /v1/commands/a/process HTTP/1.1\r\nhost: cos\r\ncontent-length: {len(BODY)}\r\n\r\n"
    async with front_door() as door:
        door.gateway.gate.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", door.settings.http_port)
        writer.write(head.encode() + BODY)
        await eventually(lambda: door.replica.in_hand == 1)
        # One, or many that the server leaves unread.
        writer.write((head.encode() + BODY) * more)
        await asyncio.sleep(0.1)
        if by_force:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        else:
            writer.close()
        await eventually(lambda: door.replica.in_hand == 0, within=3.0)
        door.gateway.gate.set()
        await asyncio.sleep(0.1)
        assert len(door.gateway.commands) == 1


BODY = b'{"entity_id": "a"}'


async def _process(client) -> None:  # type: ignore[no-untyped-def]
    await client.ProcessCommand(COMMAND, timeout=30)


async def _post(url: str) -> None:
    async with httpx.AsyncClient() as http:
        await http.post(url, json={}, timeout=30)


# Streams


async def test_a_subscription_says_that_it_is_live_before_there_is_any_event() -> None:
    async with front_door() as door, door.client() as client:
        call = client.Subscribe(SubscribeRequest(entity_id="a", subscription_id="mine"), timeout=10)
        metadata = dict(await asyncio.wait_for(call.initial_metadata(), 5))
        assert metadata["x-cos-subscription-id"] == "mine"
        # What is stored from now on reaches it.
        await door.journal.append(append_of("a", 0))
        assert (await call.read()).meta.revision_number == 1


async def test_a_refused_stream_ends_with_its_status_and_without_that_metadata() -> None:
    async with front_door() as door, door.client() as client:
        call = client.Subscribe(SubscribeRequest(), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert (refused.value.code(), refused.value.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "entity_id is required",
        )
        assert "x-cos-subscription-id" not in dict(await call.initial_metadata())


async def test_a_subscriber_that_does_not_read_is_cut_and_holds_up_nobody_on_its_connection_or_another() -> (
    None
):
    async with front_door({"unread_seconds": 0.5}) as door, door.client() as client:
        deaf = client.Subscribe(SubscribeRequest(entity_id="a"), metadata=[("x-cos-from-revision", "1")])
        await deaf.initial_metadata()
        for revision in range(40):
            await door.journal.append(append_of("a", revision, padding=200_000))
            await client.ProcessCommand(COMMAND, timeout=1.5)
        await answers(door)
        await eventually(lambda: len(door.subscriptions) == 0)
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await _read_to_the_end(deaf)
        assert cut.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "subscribe again from where you were" in (cut.value.details() or "")


async def _read_to_the_end(call) -> None:  # type: ignore[no-untyped-def]
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_health_is_watched_and_told_when_it_changes() -> None:
    async with front_door() as door, grpc.aio.insecure_channel(door.grpc) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=20)
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        unknown = HealthStub(channel).Watch(HealthCheckRequest(service="none"), timeout=20)
        assert (await unknown.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
        await door.replica.drain()
        ending = asyncio.ensure_future(door.replica.end())
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        await ending


# Bounds


@pytest.mark.parametrize("size", [8_500, 14_000, 15_500])
async def test_metadata_within_the_bound_is_always_taken(size: int) -> None:
    async with front_door() as door, door.client() as client:
        for _ in range(20):
            await client.GetState(STATE, metadata=[("x-big", "a" * size)], timeout=5)


@pytest.mark.parametrize(
    "metadata", [[("x-big", "a" * 17_000)], [("x-big", "a" * 70_000)], [(f"x-{n}", "a") for n in range(600)]]
)
async def test_metadata_over_the_bound_is_refused_for_that_call_alone(
    metadata: list[tuple[str, str]],
) -> None:
    async with front_door() as door, door.client() as client:
        door.gateway.gate.clear()
        innocent = asyncio.ensure_future(_process(client))
        await eventually(lambda: door.replica.in_hand == 1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.GetState(STATE, metadata=metadata, timeout=5)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        door.gateway.gate.set()
        await innocent


async def test_messages_over_the_bound_are_refused_and_said_to_be() -> None:
    async with front_door({"request_bytes": 100_000}) as door, door.client() as client:
        for size in (100_001, 200_000):
            command = PbAny(type_url="t/C", value=b"c" * size)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.ProcessCommand(ProcessCommandRequest(entity_id="a", command=command), timeout=5)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than" in (refused.value.details() or "")


async def test_compressed_messages_are_refused_unless_they_are_allowed() -> None:
    bomb = PbAny(type_url="t/C", value=b"\0" * 40_000_000)
    request = ProcessCommandRequest(entity_id="a", command=bomb)
    async with front_door() as door, door.client() as client:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.ProcessCommand(request, compression=grpc.Compression.Gzip, timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    async with front_door({"compression": True}) as door, door.client() as client:
        await client.ProcessCommand(COMMAND, compression=grpc.Compression.Gzip, timeout=30)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.ProcessCommand(request, compression=grpc.Compression.Gzip, timeout=30)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_without_a_token_a_body_is_not_even_read() -> None:
    async with front_door(access=SHOP) as door:
        head = b"POST /v1/commands/cart-1/process HTTP/1.1\r\nhost: a\r\ncontent-length: 28000000\r\n\r\n"
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", door.settings.http_port)
        writer.write(head)
        # Answered although nothing of the body has come.
        line = await asyncio.wait_for(reader.readline(), 5)
        assert b"401" in line
        assert time.monotonic() - begun < 5
        writer.close()
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http:
            reply = await http.post(f"{door.http}/v1/commands/cart-1/process", json={})
            assert reply.status_code == 200


async def test_connections_that_say_nothing_are_closed_and_hold_up_nobody() -> None:
    bounds = {"header_seconds": 1.0, "connections": 300, "connections_per_address": 300}
    async with front_door(bounds) as door:
        idle = [
            await asyncio.open_connection("127.0.0.1", port)
            for port in (door.settings.grpc_port, door.settings.http_port)
            for _ in range(200)
        ]
        await answers(door)
        for reader, _ in idle:
            await asyncio.wait_for(_drained(reader), 10)
        for _, writer in idle:
            writer.close()
        await answers(door)


async def _drained(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass


async def test_one_address_has_no_more_connections_than_its_share() -> None:
    async with front_door({"connections_per_address": 20}) as door:
        held = [await asyncio.open_connection("127.0.0.1", door.settings.http_port) for _ in range(20)]
        told = await door.http_bytes(b"GET /alive HTTP/1.1\r\nhost: a\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 503")
        assert b"too many connections" in told
        for _, writer in held:
            writer.close()
        async with httpx.AsyncClient() as http:
            await eventually(lambda: _is_alive(http, door))


async def _is_alive(http: httpx.AsyncClient, door: FrontDoor) -> bool:
    return (await http.get(f"{door.http}/alive")).status_code == 200


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b"408"),
        (b"GET /alive HTTP/1.1\r\nhost: a\r\nx-half", b"408"),
        (b"POST /v1/commands/a/process HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{", b"408"),
        (b"GET /alive HTTP/1.1\r\nx-big: " + b"a" * 100_000, b"431"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"404"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
    ],
)
async def test_what_is_slow_too_large_or_of_another_protocol_is_refused_over_http(
    sent: bytes, answer: bytes
) -> None:
    async with front_door({"header_seconds": 0.5, "body_seconds": 0.5}) as door:
        told = await door.http_bytes(sent)
        assert told.startswith(b"HTTP/1.1 " + answer)
        await answers(door)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 600,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
    ],
)
async def test_what_is_no_grpc_ends_the_connection_it_came_on_and_no_other(sent: bytes) -> None:
    async with front_door({"header_seconds": 1.0}) as door:
        await door.grpc_bytes(sent, within=10)
        await answers(door)


async def test_a_path_that_is_no_text_ends_nothing_but_its_own_call() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    # :method POST, :scheme http, a :path of two bytes that are no UTF-8, content-type application/grpc.
    head = b"\x83\x86\x04\x03/\xff\xfe\x0f\x10\x10application/grpc"
    async with front_door() as door:
        _, writer = await asyncio.open_connection("127.0.0.1", door.settings.grpc_port)
        writer.write(preface + len(head).to_bytes(3, "big") + b"\1\5\0\0\0\1" + head)
        await _written(writer)
        for _ in range(5):
            await answers(door)
        await door.replica.check_health()
        writer.close()


async def test_a_replica_whose_grpc_server_has_ended_says_that_it_is_not_well() -> None:
    async with front_door() as door:
        await door.replica.check_health()
        await door.replica._listeners._grpc._server.stop(0)

        async def says_so() -> bool:
            try:
                await door.replica.check_health()
            except RuntimeError as error:
                return "has ended by itself" in str(error)
            return False

        await eventually(says_so)
        # Not ready either, until it is replaced.
        async with httpx.AsyncClient(base_url=door.http) as http:
            assert [(await http.get(path)).status_code for path in ("/-/healthz", "/ready")] == [503, 503]


@pytest.mark.parametrize("wish", [b"h2c", b"websocket"])
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "in two packets"])
async def test_the_body_of_a_request_that_asks_for_an_upgrade_is_its_own(wish: bytes, apart: bool) -> None:
    body = json.dumps({"command": "CgFh"}).encode()
    head = (
        b"POST /v1/commands/a/process HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: %s\r\n"
        b"content-length: %d\r\n\r\n" % (wish, len(body))
    )
    async with front_door() as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.settings.http_port)
        writer.write(head if apart else head + body)
        await writer.drain()
        if apart:
            writer.write(body)
        told = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert told.startswith(b"HTTP/1.1 200")
        assert told.count(b"HTTP/1.1") == 1
        assert [bytes(command.payload) for command in door.gateway.commands] == [b"\n\x01a"]


async def test_trailers_of_a_body_are_no_headers() -> None:
    sent = (
        b"POST /v1/commands/a/process HTTP/1.1\r\nhost: a\r\n"
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        b"2\r\n{}\r\n0\r\nx-cos-idempotency-key: k\r\nx-cos-timeout-ms: 77\r\n\r\n"
    )
    async with front_door() as door:
        assert (await door.http_bytes(sent)).startswith(b"HTTP/1.1 200")
        (command,) = door.gateway.commands
        assert (command.key, command.budget) == (None, 5.0)


async def test_a_connection_that_goes_on_with_an_empty_line_is_closed_too() -> None:
    async with front_door({"header_seconds": 0.5, "idle_seconds": 1.0}) as door:
        told = await door.http_bytes(b"GET /alive HTTP/1.1\r\nhost: a\r\n\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 200")


async def test_a_subscription_id_of_any_letters_comes_back_where_a_header_can_hold_it() -> None:
    async with front_door() as door, door.client() as client:
        call = client.Subscribe(SubscribeRequest(entity_id="a", subscription_id="größe\n"), timeout=10)
        metadata = dict(await asyncio.wait_for(call.initial_metadata(), 5))
        assert metadata["x-cos-subscription-id"] == "gr%C3%B6%C3%9Fe%0A"


async def test_a_head_without_an_end_holds_up_nobody() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    headers, continued = b"\0\0\1\1\0\0\0\0\1\x82", b"\0\x40\0\x09\0\0\0\0\1" + b"\0" * 0x4000
    async with front_door() as door:
        before = psutil.Process().memory_info().rss
        _, writer = await asyncio.open_connection("127.0.0.1", door.settings.grpc_port)
        writer.write(preface + headers)
        # 8 MiB of CONTINUATION frames.
        for _ in range(8):
            writer.write(continued * 64)
            await asyncio.wait_for(_written(writer), 10)
            await answers(door)
        assert psutil.Process().memory_info().rss - before < 8 * 1024 * 1024
        writer.close()


async def _written(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await writer.drain()


async def test_calls_begun_and_cancelled_at_once_hold_up_nobody() -> None:
    async with front_door() as door, door.client() as client:
        door.gateway.gate.clear()
        for _ in range(20):
            calls = [client.ProcessCommand(COMMAND) for _ in range(100)]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
        door.gateway.gate.set()
        await answers(door)
        await eventually(lambda: door.replica.in_hand == 0)


# Reflection


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_knows_services_methods_and_the_applications_types(version: str) -> None:
    async with front_door() as door, grpc.aio.insecure_channel(door.grpc) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )

        async def asked(**request: str) -> ServerReflectionResponse:
            call = ask(iter([ServerReflectionRequest(**request)]), timeout=5)
            return await call.read()

        listed = {one.name for one in (await asked(list_services="")).list_services_response.service}
        assert listed >= {*SERVICES, "grpc.reflection.v1.ServerReflection"}
        for symbol in (
            "chief_of_state.v1.ChiefOfStateService.ProcessCommand",
            "chief_of_state.v1.ChiefOfStateService",
            "bank.v1.Account",
            "grpc.reflection.v1.ServerReflectionRequest",
        ):
            files = (await asked(file_containing_symbol=symbol)).file_descriptor_response
            found = [
                descriptor_pb2.FileDescriptorProto.FromString(one) for one in files.file_descriptor_proto
            ]
            assert any(symbol.startswith(file.package) for file in found), symbol
        missing = await asked(file_containing_symbol="chief_of_state.v1.ChiefOfStateService.None")
        assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


# Ending


async def test_another_replica_takes_over_on_the_same_port_without_a_failed_command() -> None:
    # Longer than it takes to open another one, also on a busy machine.
    age = {"age_seconds": 12.0}
    async with front_door(age) as old, old.client() as client:
        done = 0

        async def send() -> None:
            nonlocal done
            while not stop.is_set():
                await client.ProcessCommand(COMMAND, timeout=5)
                done += 1

        stop = asyncio.Event()
        sending = [asyncio.ensure_future(send()) for _ in range(4)]
        await eventually(lambda: done > 20)
        ending = asyncio.ensure_future(old.replica.end())
        await eventually(lambda: _takes_no_connections(old.settings.grpc_port))
        async with front_door(age, port=old.settings.grpc_port) as new:
            await ending
            await eventually(lambda: len(new.gateway.commands) > 20, within=30)
            stop.set()
            await asyncio.gather(*sending)


async def test_a_call_in_progress_is_answered_while_a_replica_ends() -> None:
    async with front_door() as door, door.client() as client:
        door.gateway.gate.clear()
        call = asyncio.ensure_future(client.ProcessCommand(COMMAND, timeout=10))
        await eventually(lambda: door.replica.in_hand == 1)
        await door.replica.drain()
        ending = asyncio.ensure_future(door.replica.end())
        await eventually(lambda: _takes_no_connections(door.settings.grpc_port))
        door.gateway.gate.set()
        assert (await call).meta.revision_number == 2
        await ending


async def _takes_no_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return True
    writer.close()
    return False


def test_gzip_makes_little_of_zeros() -> None:
    """Or the test of compressed messages would show nothing."""
    assert len(gzip.compress(b"\0" * 50_000_000)) < 100_000


def test_refusals_over_http_are_json() -> None:
    from cos_ray.ingress import http_connection

    for answer in (http_connection._TOO_SLOW, http_connection._TOO_LARGE, http_connection._TOO_MANY):
        assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])
