"""What Serve's own proxy makes of a replica that dies."""

from __future__ import annotations

import grpc
import pytest
from ray.exceptions import ActorDiedError
from ray.serve._private import proxy
from ray.serve.exceptions import BackPressureError

from cos_ray.cluster.lost_replicas import LOST, add_lost_replicas_to_server


def test_a_lost_replica_is_unavailable_and_nothing_else_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    # Restores Serve's own answer when the test ends.
    monkeypatch.setattr(proxy, "get_grpc_response_status", proxy.get_grpc_response_status)
    for _ in range(2):
        add_lost_replicas_to_server(object(), object())
    lost = proxy.get_grpc_response_status(ActorDiedError(), 5.0, "id")
    assert (lost.code, lost.message) == (grpc.StatusCode.UNAVAILABLE, LOST)
    busy = proxy.get_grpc_response_status(BackPressureError(1, 2), 5.0, "id")
    assert busy.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert proxy.get_grpc_response_status(ValueError("x"), 5.0, "id").code is grpc.StatusCode.INTERNAL
