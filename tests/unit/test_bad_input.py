"""Whatever is sent, by HTTP or by gRPC, has one clear answer, and never breaks what answers."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from typing import Any

import grpc
import httpx
import pytest
import schemathesis
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as PbAny
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    missing_required_header,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from cos_ray.domain.erasure import Erasure
from cos_ray.domain.evolution import unborn
from cos_ray.domain.ids import EntityId, Offset
from cos_ray.domain.listing import Listing
from cos_ray.domain.messages import EMPTY_STATE, Accepted, Command, EntityState, Packed, Reply
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.http_context import BadHeader, metadata_of
from cos_ray.ingress.service import SERVICES, CommandPolicy, Ingress
from cos_ray.ingress.status import StreamRefused
from cos_ray.protocol.any_form import AnyForms
from cos_ray.subscriptions.subscriptions import Subscriptions
from cos_ray.testing.clock import ManualClock
from cos_ray.testing.journal import MemoryJournal
from tests.support.http import BANK
from tests.unit.test_ingress import Context, ingress


class Answers:
    """A gateway, a past and an eraser that take anything they can be given."""

    async def process(self, command: Command) -> Reply:
        assert len(command.entity_id) <= 255
        return Accepted(await self.state(command.entity_id))

    async def state(self, entity_id: EntityId) -> EntityState:
        return unborn(entity_id)

    async def at_time(self, entity_id: EntityId, moment: datetime) -> None:
        assert moment.tzinfo is not None

    async def entities(self, prefix: str, after: str, limit: int) -> Listing:
        return Listing((), None)

    async def offset_at(self, moment: datetime) -> Offset:
        return Offset(1)

    async def changed(self, prefix: str, since: datetime, after: Offset, limit: int) -> Listing:
        return Listing((), None)

    async def remove(self, entity_id: EntityId, reason: str, caller: str | None) -> Erasure:
        return Erasure(datetime(2026, 1, 1, tzinfo=timezone.utc), 1)


FORMS = AnyForms([BANK])


async def made() -> Ingress:
    answers, journal = Answers(), MemoryJournal()
    return await ingress(
        answers,  # type: ignore[arg-type]
        CommandPolicy(5.0, persisted_headers=("x-user", "raw-bin")),
        past=answers,
        eraser=answers,
        history=journal,
        subscriptions=Subscriptions(journal, ManualClock()),
        http=HttpPolicy(api=True, largest_body=100_000, watched_headers=frozenset({"x-user", "raw-bin"})),
        any_forms=FORMS,
    )


ONE = asyncio.run(made())
API = ONE.__serve_build_asgi_app__()
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", API).exclude(path_regex="stream")

FEW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@SCHEMA.parametrize()
@FEW
def test_every_request_is_answered_as_the_document_says(case: schemathesis.Case) -> None:
    case.call_and_validate(
        # A header that is not in the document is no fault: every request may have some of its own.
        excluded_checks=[negative_data_rejection] if _is_wrong_in_headers(case) else [],
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            missing_required_header,
            negative_data_rejection,
        ],
    )


def _is_wrong_in_headers(case: schemathesis.Case) -> bool:
    headers = case.meta and case.meta.components.get(ParameterLocation.HEADER)
    return bool(headers) and headers.mode.is_negative


def test_the_document_names_every_route() -> None:
    assert set(API.openapi()["paths"]) >= {
        "/v1/commands/{entity_id}/process",
        "/v1/entities/{entity_id}/state",
        "/v1/entities/{entity_id}/events",
        "/v1/entities/{entity_id}/events/stream",
        "/v1/events/stream",
        "/v1/entities",
        "/v1/entities/{entity_id}",
        "/v1/states",
        "/ready",
        "/alive",
    }


METHODS = [
    method
    for service in SERVICES
    if not service.startswith("grpc.")
    for method in descriptor_pool.Default().FindServiceByName(service).methods
]

METADATA = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "x-cos-from-revision",
                "x-cos-from-offset",
                "x-cos-with-offset",
                "x-cos-idempotency-key",
                "x-cos-expected-revision",
                "x-forwarded-for",
                "authorization",
                "x-user",
                "raw-bin",
            ]
        ),
        st.one_of(st.text(max_size=40), st.binary(max_size=40), st.integers().map(str)),
    ),
    max_size=4,
)

FORESEEN = {
    None,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@given(data=st.data(), metadata=METADATA)
@settings(max_examples=60, deadline=None)
def test_any_bytes_that_are_a_message_and_any_metadata_have_a_foreseen_end(
    method: Any, data: st.DataObject, metadata: list[tuple[str, str | bytes]]
) -> None:
    message = message_factory.GetMessageClass(method.input_type)
    body = data.draw(st.one_of(bodies(message), bodies(message), st.binary(max_size=200)))
    try:
        request = message.FromString(body)
    except DecodeError:
        return  # gRPC itself refuses it
    assert asyncio.run(end_of(method, request, metadata)) in FORESEEN


TIMES = st.builds(Timestamp, seconds=st.integers(-(2**62), 2**62), nanos=st.integers(-(2**31), 2**31 - 1))


def bodies(message: Any) -> st.SearchStrategy[bytes]:
    """Messages with any values in their fields."""
    fields = {}
    for field in message.DESCRIPTOR.fields:
        if field.type == field.TYPE_STRING:
            text = st.one_of(st.sampled_from(["a", "7"]), st.text(max_size=300))
            fields[field.name] = st.lists(text, max_size=3) if field.is_repeated else text
        elif field.type == field.TYPE_UINT32:
            fields[field.name] = st.integers(0, 2**32 - 1)
        elif field.type == field.TYPE_MESSAGE and field.message_type.name == "Timestamp":
            fields[field.name] = TIMES
    return st.fixed_dictionaries({}, optional=fields).map(
        lambda values: message(**values).SerializeToString()
    )


@given(st.binary(min_size=1, max_size=30), st.sampled_from(["state", "events", "events?from=1", ""]))
@settings(deadline=None)
def test_any_bytes_in_a_path_are_an_id_or_refused(id_: bytes, rest: str) -> None:
    path = "/v1/entities/" + "".join(f"%{byte:02X}" for byte in id_) + f"/{rest}"
    status = asyncio.run(status_of(path))
    assert status in (200, 400, 404)


async def status_of(path: str) -> int:
    transport = httpx.ASGITransport(API, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://cos") as client:
        return (await client.get(path)).status_code


async def end_of(
    method: Any, request: Any, metadata: list[tuple[str, str | bytes]]
) -> grpc.StatusCode | None:
    one, context = await made(), Context(metadata)
    call = getattr(one, method.name)
    if not method.server_streaming:
        await call(request, context)
        return context.code
    stream = call(request, context)
    first = asyncio.ensure_future(anext(stream))
    for _ in range(50):
        await asyncio.sleep(0)
    first.cancel()
    (ended,) = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError | StreamRefused), ended
    await stream.aclose()
    one._parts.subscriptions.close()  # type: ignore[union-attr]
    return context.code


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=30)), max_size=5))
def test_any_headers_become_metadata_or_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        metadata = metadata_of(headers, {"x-user"})
    except BadHeader:
        return
    for key, value in metadata:
        assert isinstance(value, bytes) is key.endswith("-bin")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(value=JSON, type_=st.sampled_from(["bank.v1.OpenAccount", "google.protobuf.Any", "nobody", ""]))
@settings(deadline=None)
def test_any_json_is_a_message_or_none(value: Any, type_: str) -> None:
    forms = AnyForms([BANK])
    for given_ in (value, {"@type": f"type.googleapis.com/{type_}", "owner": value, "value": value}):
        try:
            packed = forms.from_json(given_)
        except ValueError:
            continue
        json.dumps(forms.to_json(packed, readable=True))


@given(st.binary(max_size=60))
def test_any_message_has_a_form_that_leads_back_to_it(value: bytes) -> None:
    packed = Packed(
        PbAny(type_url="type.googleapis.com/bank.v1.OpenAccount", value=value).SerializeToString()
    )
    forms = AnyForms([BANK])
    assert forms.from_json(forms.to_json(packed)) == packed
    json.dumps(forms.to_json(packed, readable=True))
    assert forms.to_json(EMPTY_STATE, readable=True)
