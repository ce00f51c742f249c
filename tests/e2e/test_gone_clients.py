"""Clients that go while their command is at its handler, by every door and with both placements."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any as Untyped

import grpc
import pytest

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from tests.e2e.scripted_handler import Script, ScriptedHandler
from tests.support.any_service import any_service
from tests.support.running_service import eventually

KEY = "x-cos-idempotency-key"
LEFT = 5.0
"""More than this was left of the call's time when it was cancelled, in seconds: it was not for that."""

_names = count(1)


class House:
    def __init__(self, handler: ScriptedHandler, service: Untyped) -> None:
        self.handler, self.service = handler, service

    def process(self, entity: str, script: Script, key: str) -> Untyped:
        with grpc.insecure_channel(self.service.address) as channel:
            request = ProcessCommandRequest(entity_id=entity, command=script.packed())
            stub = ChiefOfStateServiceStub(channel)
            return stub.ProcessCommand(request, timeout=30, metadata=[(KEY, key)])

    def call(self, channel: grpc.Channel, entity: str, script: Script) -> grpc.Future:
        request = ProcessCommandRequest(entity_id=entity, command=script.packed())
        stub = ChiefOfStateServiceStub(channel)
        return stub.ProcessCommand.future(request, timeout=60, metadata=[(KEY, "k")])


@pytest.fixture(scope="module", params=["sharded", "dedicated"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    handler = ScriptedHandler()
    settings = {
        "COS_WRITE_SIDE_HOST": "127.0.0.1",
        "COS_WRITE_SIDE_PORT": str(handler.port),
        "COS_COMMAND_HANDLER_TIMEOUT": "60",
        "COS_ENTITY_PLACEMENT": request.param,
        "COS_SERVER_PROTOCOL": "both",
    }
    service = any_service(tmp_path_factory.mktemp("data") / "postgres", settings)
    try:
        service.start()
        yield House(handler, service)
    finally:
        service.end()
        handler.stop()


def _cancels(house: House, entity: str, script: Script) -> Callable[[], None]:
    channel = grpc.insecure_channel(house.service.address)
    call = house.call(channel, entity, script)
    return lambda: (call.cancel(), channel.close())[0]


def _closes_its_connection(house: House, entity: str, script: Script) -> Callable[[], None]:
    channel = grpc.insecure_channel(house.service.address)
    house.call(channel, entity, script).add_done_callback(lambda _: None)
    return channel.close


def _hangs_up(house: House, entity: str, script: Script) -> Callable[[], None]:
    """Over HTTP."""
    host, port = house.service.address.rpartition(":")[0], house.service.http_port
    command = base64.b64encode(script.packed().SerializeToString()).decode()
    body = json.dumps({"command": command}).encode()
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(
        b"POST /v1/commands/%s/process HTTP/1.1\r\nhost: x\r\n%s: k\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (entity.encode(), KEY.encode(), len(body), body)
    )
    return connection.close


@pytest.mark.parametrize("begin", [_cancels, _closes_its_connection, _hangs_up])
def test_its_handler_call_is_cancelled_and_its_key_is_free(
    house: House, begin: Callable[[House, str, Script], Callable[[], None]]
) -> None:
    entity = f"gone-{next(_names)}"
    assert house.process(entity, Script(["a"]), "before").meta.revision_number == 1
    go = begin(house, entity, Script(["lost"], sleep=50))
    eventually(lambda: house.handler.seen(entity) == 2)
    with grpc.insecure_channel(house.service.address) as channel:
        # The same key, of a client that stays: it waits for its turn, and has it.
        waiting = house.call(channel, entity, Script(["b"]))
        go()
        reply = waiting.result(timeout=20)
    assert (reply.state.value, reply.meta.revision_number) == (b"/a/b", 2)
    eventually(lambda: any(each == entity for each, _ in house.handler.given_up))
    ((_, left),) = [each for each in house.handler.given_up if each[0] == entity]
    assert left > LEFT
    # Sent again, the key's command is known; nothing of the lost one is stored.
    assert house.process(entity, Script(["c"]), "k") == reply
    assert house.process(entity, Script(["d"]), "after").state.value == b"/a/b/d"
