"""What Serve goes by to bound, to drain and to scale replicas, kept where calls do not come by way of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from ray.serve._private.common import RequestProtocol

from cos_ray.cluster.straight_calls import straight_handler
from cos_ray.ingress.straight import answer_straight
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import GetStateRequest, GetStateResponse

METHOD = "/chief_of_state.v1.ChiefOfStateService/GetState"


class Counts:
    """What a replica counts."""

    def __init__(self) -> None:
        self.ongoing = 0
        self.recorded: list[tuple[str, bool]] = []

    def inc_num_ongoing_requests(self, shown: Any) -> None:
        assert shown.protocol is RequestProtocol.GRPC
        assert shown.is_direct_ingress
        self.ongoing += 1

    def dec_num_ongoing_requests(self, _shown: Any) -> None:
        self.ongoing -= 1

    def record_request_metrics(self, *, route: str, latency_ms: float, is_error: bool) -> None:
        assert latency_ms >= 0
        self.recorded.append((route, is_error))


class Context:
    """gRPC's."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailers: tuple[tuple[str, str | bytes], ...] = ()

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self.trailers = trailing_metadata


class Replica:
    """Serve's, with an ingress that answers as the test says."""

    def __init__(self, most: int = 10) -> None:
        self.counts = Counts()
        self.accepts = True
        self.method: Any = None
        self._deployment_id = SimpleNamespace(app_name="bank")
        self._metrics_manager = self.counts
        self._semaphore = asyncio.Semaphore(most)
        self._user_callable_wrapper = self

    def _can_accept_request(self, _shown: Any) -> bool:
        return self.accepts

    def get_user_method_info(self, name: str) -> Any:
        assert name == "straight"
        return SimpleNamespace(callable=self._straight)

    async def _straight(self, method: str, request: Any, context: Any, metadata: Any) -> bytes | None:
        assert method == "GetState"
        return await answer_straight(self.method, request, context, metadata)

    async def serves_own(self, _request: Any, _context: Any) -> bytes:
        return b"serve's own"

    async def call(self, context: Context | None = None) -> bytes:
        handler = straight_handler(self, METHOD, self.serves_own)
        return await handler(GetStateRequest(entity_id="e"), context or Context())


@pytest.fixture
async def replica() -> Replica:
    return Replica()


async def test_a_call_counts_as_ongoing_until_it_is_answered(replica: Replica) -> None:
    gate = asyncio.Event()
    reply = GetStateResponse()
    reply.meta.entity_id = "e"

    async def method(request: Any, _context: Any) -> GetStateResponse:
        assert request.entity_id == "e"
        await gate.wait()
        return reply

    replica.method = method
    calls = [asyncio.ensure_future(replica.call()) for _ in range(3)]
    await asyncio.sleep(0)
    assert replica.counts.ongoing == 3
    gate.set()
    assert await asyncio.gather(*calls) == [reply.SerializeToString()] * 3
    assert replica.counts.ongoing == 0
    assert replica.counts.recorded == [("bank", False)] * 3


async def test_no_more_run_at_once_than_serve_allows() -> None:
    replica, gate = Replica(most=2), asyncio.Event()

    async def method(_request: Any, _context: Any) -> GetStateResponse:
        await gate.wait()
        return GetStateResponse()

    replica.method = method
    calls = [asyncio.ensure_future(replica.call()) for _ in range(5)]
    await asyncio.sleep(0)
    assert replica.counts.ongoing == 2
    gate.set()
    await asyncio.gather(*calls)
    assert replica.counts.ongoing == 0


async def test_a_fault_is_internal_and_counts_as_an_error(replica: Replica) -> None:
    async def method(_request: Any, _context: Any) -> GetStateResponse:
        raise ValueError("secret")

    replica.method = method
    context = Context()
    assert await replica.call(context) == b""
    assert (context.code, context.details) == (
        grpc.StatusCode.INTERNAL,
        "the service failed; its log says why",
    )
    assert [key for key, _ in context.trailers] == ["grpc-status-details-bin"]
    assert (replica.counts.ongoing, replica.counts.recorded) == (0, [("bank", True)])


async def test_a_call_that_its_client_gives_up_is_not_ongoing_any_more(replica: Replica) -> None:
    async def method(_request: Any, _context: Any) -> GetStateResponse:
        await asyncio.Event().wait()
        raise AssertionError

    replica.method = method
    call = asyncio.ensure_future(replica.call())
    await asyncio.sleep(0)
    assert replica.counts.ongoing == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert replica.counts.ongoing == 0


async def test_serve_answers_those_who_name_an_application_and_turns_away_itself(replica: Replica) -> None:
    assert await replica.call(Context(("application", "another"))) == b"serve's own"
    replica.accepts = False
    assert await replica.call() == b"serve's own"
    assert replica.counts.recorded == []
