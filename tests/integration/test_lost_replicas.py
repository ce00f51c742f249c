"""What Serve's own proxy makes of a replica that dies."""

from __future__ import annotations

import json

import grpc
import pytest
from ray.exceptions import ActorDiedError
from ray.serve._private import proxy
from ray.serve.exceptions import BackPressureError

from cos_ray.cluster.lost_replicas import LOST, NOT_UP, add_lost_replicas_to_server


class Asked:
    """A request, as far as it matters."""

    def __init__(self, app_name: str = "") -> None:
        self.app_name = app_name


@pytest.fixture(autouse=True)
def serves_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve's own answers are in place again when a test ends."""
    monkeypatch.setattr(proxy, "get_grpc_response_status", proxy.get_grpc_response_status)
    for kind in (proxy.gRPCProxy, proxy.HTTPProxy):
        monkeypatch.setattr(kind, "not_found_response", kind.not_found_response)


@pytest.mark.parametrize(("app_name", "code"), [("", "UNAVAILABLE"), ("another", "NOT_FOUND")])
async def test_while_there_is_no_application_nobody_is_told_that_there_is_no_entity(
    app_name: str, code: str
) -> None:
    add_lost_replicas_to_server(object(), object())
    [status] = [each async for each in proxy.gRPCProxy.not_found_response(None, Asked(app_name))]
    assert status.code.name == code
    *messages, status = [each async for each in proxy.HTTPProxy.not_found_response(None, Asked())]
    assert (messages[0]["status"], status.code) == (503, 503)
    assert json.loads(messages[1]["body"]) == {"error": f"UNAVAILABLE: {NOT_UP}"}


def test_a_lost_replica_is_unavailable_and_nothing_else_is_touched() -> None:
    for _ in range(2):
        add_lost_replicas_to_server(object(), object())
    lost = proxy.get_grpc_response_status(ActorDiedError(), 5.0, "id")
    assert (lost.code, lost.message) == (grpc.StatusCode.UNAVAILABLE, LOST)
    busy = proxy.get_grpc_response_status(BackPressureError(1, 2), 5.0, "id")
    assert busy.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert proxy.get_grpc_response_status(ValueError("x"), 5.0, "id").code is grpc.StatusCode.INTERNAL
