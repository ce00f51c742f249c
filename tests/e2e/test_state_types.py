"""A handler whose state's type is renamed, behind a service that goes on: nothing is lost without a word."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, ProcessCommandRequest
from tests.e2e.scripted_handler import Script, ScriptedHandler
from tests.support.running_service import RunningService

CART, BASKET = "type.googleapis.com/shop.v1.Cart", "type.googleapis.com/shop.v1.Basket"
REFUSAL = (
    "state type changed from shop.v1.Cart to shop.v1.Basket; "
    "declare it (COS_TYPE_RENAMES) or set COS_TYPE_CHANGES=allow"
)


@pytest.fixture
def handler() -> Iterator[ScriptedHandler]:
    handler = ScriptedHandler()
    yield handler
    handler.stop()


@pytest.fixture
def service(handler: ScriptedHandler, tmp_path: Path) -> Iterator[RunningService]:
    """With a process for each entity, not started yet."""
    settings = {
        "COS_WRITE_SIDE_HOST": "127.0.0.1",
        "COS_WRITE_SIDE_PORT": str(handler.port),
        "COS_SERVER_PROTOCOL": "both",
    }
    service = RunningService(tmp_path / "data", settings)
    try:
        yield service
    finally:
        service.end()


def add(service: RunningService, item: str, state_type: str) -> tuple[grpc.StatusCode | None, str, bytes]:
    """Code, message and the state of the reply."""
    request = ProcessCommandRequest(
        entity_id="cart-1", command=Script([item], state_type=state_type).packed()
    )
    with service.client() as client:
        try:
            return None, "", client.ProcessCommand(request, timeout=60).state.value
        except grpc.RpcError as error:
            return error.code(), error.details(), b""


def state(service: RunningService) -> tuple[str, bytes, int]:
    with service.client() as client:
        reply = client.GetState(GetStateRequest(entity_id="cart-1"), timeout=60)
        return reply.state.type_url, reply.state.value, reply.meta.revision_number


def over_http(service: RunningService, item: str, state_type: str) -> tuple[int, str]:
    command = Script([item], state_type=state_type).packed().SerializeToString()
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.http_port}/v1/commands/cart-1/process",
        json.dumps({"command": b64encode(command).decode()}).encode(),
        {"content-type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    return caught.value.code, json.loads(caught.value.read())["error"]


@pytest.mark.timeout(240)
def test_a_renamed_state_is_refused_until_the_change_is_declared(service: RunningService) -> None:
    service.start()
    add(service, "bread", CART)
    add(service, "milk", CART)
    before = (CART, b"/bread/milk", 2)
    assert state(service) == before
    for _ in range(2):
        assert add(service, "sugar", BASKET) == (grpc.StatusCode.FAILED_PRECONDITION, REFUSAL, b"")
    assert over_http(service, "sugar", BASKET) == (412, f"FAILED_PRECONDITION: {REFUSAL}")
    assert state(service) == before
    assert service.stop() == 0

    service.environment["COS_TYPE_RENAMES"] = "shop.v1.Cart=shop.v1.Basket"
    service.start()
    assert add(service, "sugar", BASKET) == (None, "", b"/bread/milk/sugar")
    assert state(service) == (BASKET, b"/bread/milk/sugar", 3)
    code, text, _ = add(service, "salt", CART)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert text.startswith("state type changed from shop.v1.Basket to shop.v1.Cart;")
