"""What a program of the cluster may hand to `cos_ray.connect()`'s connection."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from cos_ray.bootstrap.connection import Connection
from cos_ray.domain.errors import CallFailed, Code


@pytest.mark.parametrize(
    "given",
    [
        {"entity_id": "a\ud83d"},
        {"entity_id": "a", "key": "k\ud83d"},
        {"entity_id": "a", "headers": [("x-a", "hi \ud83d")]},
        {"entity_id": "a", "headers": [("x-\ud83d", "a")]},
        {"entity_id": "a", "headers": [("x-a", None)]},
        {"entity_id": "a", "headers": [(b"x-a", "a")]},
    ],
)
async def test_what_no_door_could_send_is_an_invalid_argument(given: dict[str, Any]) -> None:
    connection = Connection("bank", None)  # type: ignore[arg-type]
    with pytest.raises(CallFailed) as caught:
        await connection.process(command=Empty(), **given)
    assert caught.value.status.code is Code.INVALID_ARGUMENT
