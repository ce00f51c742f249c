"""What HTTP clients send and see."""

from __future__ import annotations

import asyncio
import base64
import functools
import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.any import pack

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.evolution import unborn
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Header, Refused
from cos_ray.ingress.command_options import EXPECTED_REVISION, IDEMPOTENCY_KEY, TIMEOUT
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.http_errors import HTTP_STATUS
from cos_ray.ingress.read_your_writes import PENDING, WAIT_FOR
from cos_ray.ingress.subscription_start import FROM_OFFSET, FROM_REVISION, WITH_OFFSET
from cos_ray.protocol.any_form import AnyForms
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandResponse
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import OpenAccount
from tests.support.http import ADA, World, http_world, world_of
from tests.support.journal import append_of


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with http_world() as world:
        yield world


@functools.cache
def build_document() -> dict[str, Any]:
    """The paths in the OpenAPI document."""
    api = asyncio.run(world_of(HttpPolicy(api=True))).one.__serve_build_asgi_app__()
    paths: dict[str, Any] = api.openapi()["paths"]
    return paths


def command(**fields: Any) -> dict[str, Any]:
    return {"command": base64.b64encode(pack(OpenAccount(**fields)).SerializeToString()).decode()}


async def test_a_command_is_run_and_its_state_answered(world: World) -> None:
    reply = await world.client.post("/v1/commands/a%2Fb/process", json=command(owner="Ada"))
    assert reply.status_code == 200
    assert reply.json() == {
        "state": base64.b64encode(ADA.state).decode(),
        "meta": {
            "entity_id": "a/b",
            "revision_number": 2,
            "revision_date": "2026-01-02T03:04:05.678901Z",
            "headers": [{"key": "x-user", "string_value": "ada"}],
        },
    }
    (sent,) = world.gateway.commands
    assert sent.entity_id == "a/b"
    assert sent.payload == pack(OpenAccount(owner="Ada")).SerializeToString()


@pytest.mark.parametrize(
    ("path", "entity_id"),
    [("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb"), ("%2E%2E", ".."), ("%C3%A9%20%3F", "é ?"), ("a+b", "a+b")],
)
async def test_what_a_path_says_in_one_segment_is_the_id(world: World, path: str, entity_id: str) -> None:
    await world.client.post(f"/v1/commands/{path}/process", json={})
    assert [sent.entity_id for sent in world.gateway.commands] == [entity_id]


async def test_the_path_wins_and_a_command_may_be_missing(world: World) -> None:
    reply = await world.client.post("/v1/commands/a/process", json={"entity_id": "b"})
    assert reply.status_code == 200
    (sent,) = world.gateway.commands
    assert (sent.entity_id, sent.payload) == ("a", b"")


async def test_a_known_type_may_be_given_and_asked_for_as_json(world: World) -> None:
    body = {"command": {"@type": "type.googleapis.com/bank.v1.OpenAccount", "owner": "Ada"}}
    reply = await world.client.post("/v1/commands/a/process?any=json", json=body)
    assert reply.json()["state"] == {
        "@type": "type.googleapis.com/bank.v1.Account",
        "owner": "Ada",
        "balance": "5",
    }
    assert world.gateway.commands[0].payload == pack(OpenAccount(owner="Ada")).SerializeToString()


async def test_what_is_of_no_known_type_stays_base64(world: World) -> None:
    await world.journal.append(append_of("a", 0))
    reply = await world.client.get("/v1/entities/a/events?any=json")
    assert isinstance(reply.json()["events"][0]["event"], str)


DEEP = '{"command":' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("{", 400, "the body is no JSON"),
        ("", 400, "the body is empty; a JSON object is due"),
        (" \n", 400, "the body is empty; a JSON object is due"),
        ("[]", 400, "the body is no JSON object"),
        ('"text"', 400, "the body is no JSON object"),
        ("null", 400, "the body is no JSON object"),
        ('{"command": NaN}', 400, "the body is no JSON"),
        ('{"comand": ""}', 400, "unknown field 'comand'"),
        ('{"command": null, "command": ""}', 400, "field 'command' is given twice"),
        ('{"command": {"@type": "a", "@type": "b"}}', 400, "field '@type' is given twice"),
        ('{"entity_id": 5}', 400, "entity_id is no text"),
        ('{"command": "%%%"}', 400, "command is no base64"),
        ('{"command": "////"}', 400, "command is no google.protobuf.Any"),
        ('{"command": 5}', 400, "command is no text"),
        ('{"command": {}}', 400, "without @type"),
        ('{"command": {"@type": "t/nobody.Knows"}}', 400, "no message of that @type"),
        ('{"command": {"@type": "t/bank.v1.OpenAccount", "own": 1}}', 400, "no message of that @type"),
        (
            '{"command": {"@type": "t/bank.v1.OpenAccount", "owner": "\\ud800"}}',
            400,
            "no message of that @type",
        ),
        ('{"command": ' + "9" * 5_000 + "}", 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        (DEEP[:9_000], 400, "nested too deeply|no JSON"),
        ("x" * 10_001, 413, "larger than 10000 bytes"),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_in_one_line(
    world: World, body: str | bytes, status: int, text: str
) -> None:
    reply = await world.client.post("/v1/commands/a/process", content=body)
    assert reply.status_code == status
    assert any(part in reply.json()["error"] for part in text.split("|"))
    assert world.gateway.commands == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "the body is empty; a JSON object is due"),
        ("{}", "field 'entity_ids' is missing"),
        ('{"entity_ids": null}', "field 'entity_ids' is missing"),
        ('{"entity_ids": "a"}', "entity_ids is no list of texts"),
        ('{"entity_ids": ["a", 1]}', "entity_ids is no list of texts"),
        ('{"entity_ids": ["a"], "entity_ids": ["b"]}', "field 'entity_ids' is given twice"),
    ],
)
async def test_which_entities_are_meant_has_to_be_said(world: World, body: str, text: str) -> None:
    reply = await world.client.post("/v1/states", content=body)
    assert (reply.status_code, reply.json()) == (400, {"error": f"INVALID_ARGUMENT: {text}"})


async def test_a_body_of_another_kind_is_told_what_was_taken_for_one(world: World) -> None:
    path = "/v1/commands/a/process"
    form = await world.client.post(path, data={"command": "x"})
    assert (form.status_code, form.json()["error"]) == (
        400,
        "INVALID_ARGUMENT: the body is no JSON; content-type is 'application/x-www-form-urlencoded'",
    )
    packed = await world.client.post(path, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (packed.status_code, "content-encoding is 'gzip'" in packed.json()["error"]) == (415, True)
    # What no client has to say: JSON is JSON.
    assert (await world.client.post(path, content="{}", headers={"content-type": "text/plain"})).is_success
    assert len(world.gateway.commands) == 1


ROUTES = [
    (method.upper(), path.replace("{entity_id}", "a"))
    for path, operations in build_document().items()
    for method in operations
    if path not in ("/alive", "/ready")
] + [("GET", "/openapi.json"), ("GET", "/docs")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_query_has_known_parameters_each_of_them_once(world: World, method: str, path: str) -> None:
    async def error_for(query: str) -> tuple[int, str]:
        reply = await world.client.request(method, f"{path}?{query}", json={"entity_ids": []})
        return reply.status_code, reply.json()["error"]

    status, error = await error_for("pagesize=5")
    assert (status, error.startswith("INVALID_ARGUMENT: unknown query parameter 'pagesize'")) == (400, True)
    assert await error_for("prefix=%FF") == (400, "INVALID_ARGUMENT: the query is no UTF-8")
    known = [each["name"] for each in parameters_of(method, path) if each["in"] == "query"]
    for name in known:
        said = f"INVALID_ARGUMENT: query parameter '{name}' is given more than once"
        assert await error_for(f"{name}=1&{name}=1") == (400, said)
    assert world.gateway.commands == []


def parameters_of(method: str, path: str) -> list[dict[str, Any]]:
    operations = build_document().get(path.replace("/a/", "/{entity_id}/"), {})
    found: list[dict[str, Any]] = operations.get(method.lower(), {}).get("parameters", [])
    return found


async def test_a_read_side_that_is_behind_is_named_over_http_too(world: World) -> None:
    world.one.ProcessCommand = behind  # type: ignore[method-assign]
    reply = await world.client.post("/v1/commands/a/process", json={})
    assert (reply.status_code, reply.headers["x-cos-read-side-pending"]) == (200, "balances")


async def behind(request: Any, context: Any) -> ProcessCommandResponse:
    context.set_trailing_metadata([(PENDING, "balances"), ("other", "1")])
    return ProcessCommandResponse()


async def test_the_page_of_the_documentation_needs_nothing_from_elsewhere(world: World) -> None:
    page = await world.client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.findall(r"<script|<link|@import|url\(|src=|https?://", page.text)
    for path, operations in build_document().items():
        assert html.escape(path) in page.text
        for operation in operations.values():
            assert html.escape(operation["description"]) in page.text
            for parameter in operation.get("parameters", ()):
                assert html.escape(parameter["name"]) in page.text


def test_headers_are_in_the_document() -> None:
    document = build_document()
    process = document["/v1/commands/{entity_id}/process"]["post"]
    sent = {each["name"] for each in process["parameters"] if each["in"] == "header"}
    assert sent == {IDEMPOTENCY_KEY, EXPECTED_REVISION, TIMEOUT, WAIT_FOR}
    assert process["responses"]["200"]["headers"].keys() == {PENDING}
    assert process["responses"]["default"]["headers"].keys() == {"x-cos-actual-revision"}
    assert process["requestBody"]["required"]
    streams = [document[f"/v1/{of}events/stream"]["get"] for of in ("entities/{entity_id}/", "")]
    sent = {each["name"] for one in streams for each in one["parameters"] if each["in"] == "header"}
    assert sent == {FROM_REVISION, FROM_OFFSET, WITH_OFFSET, "last-event-id"}
    for one in streams:
        assert one["responses"]["200"]["headers"].keys() == {"x-cos-subscription-id"}


@pytest.mark.parametrize("tokens", [True, False])
async def test_the_document_says_where_a_token_is_needed(tokens: bool) -> None:
    world = await world_of(HttpPolicy(api=True, tokens=tokens))
    document = (await world.client.get("/openapi.json")).json()
    assert ("securitySchemes" in document["components"]) is tokens
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) is (tokens and path.startswith("/v1/"))
    assert ("Bearer" in (await world.client.get("/docs")).text) is tokens


async def test_a_body_without_a_length_is_bounded_too(world: World) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000_000):
            yield b"x" * 1_000

    reply = await world.client.post("/v1/commands/a/process", content=endless())
    assert reply.status_code == 413


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'{"":{}}', b"[[[[[[[[[[]]]]]]]]]]"])
async def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(value: bytes) -> None:
    body = b'{"command": [' + value + (b"," + value) * 100_000 + b"]}"
    async with http_world(10_000_000) as world:
        reply = await world.client.post("/v1/commands/a/process", content=body)
    assert reply.status_code == 413
    assert "more than 100000 values" in reply.json()["error"]


async def test_what_stands_in_a_text_is_no_value() -> None:
    text = '"[{,:\\' * 100_000
    async with http_world(10_000_000) as world:
        reply = await world.client.post("/v1/commands/a/process", json={"command": text})
    assert reply.status_code == 400
    assert "base64" in reply.json()["error"]


async def test_a_text_without_an_end_is_looked_at_once() -> None:
    body = b'{"command": "' + b'\\",' * 1_000_000
    async with http_world(10_000_000) as world:
        assert (await world.client.post("/v1/commands/a/process", content=body)).status_code == 400


async def test_a_refusal_without_details_says_nothing_twice(world: World) -> None:
    world.gateway.answer = Refused(Status(Code.ABORTED, "why"))
    reply = await world.client.post("/v1/commands/ada/process", json={})
    assert (reply.status_code, reply.json()) == (409, {"error": "ABORTED: why"})


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_each_refusal_has_its_status_its_code_and_its_details(world: World, code: Code) -> None:
    trailers = (("x-cos-actual-revision", "5"),)
    world.gateway.answer = Refused(Status(code, "why", b"details", trailers))
    reply = await world.client.post("/v1/commands/a/process", json={})
    assert reply.status_code == HTTP_STATUS[code]
    details = base64.b64encode(b"details").decode()
    assert reply.json() == {"error": f"{code.name}: why", "details": details}
    assert reply.headers["x-cos-actual-revision"] == "5"


async def test_a_fault_of_ours_tells_nothing(world: World) -> None:
    world.gateway.answer = ValueError("secret")
    reply = await world.client.post("/v1/commands/a/process", json={})
    assert (reply.status_code, reply.json()) == (
        500,
        {"error": "INTERNAL: the service failed; its log says why"},
    )


async def test_request_headers_count_as_metadata(world: World) -> None:
    headers = {
        "X-User": "ada",
        "Raw-Bin": "/wA",
        "X-Cos-Idempotency-Key": "k",
        "x-cos-expected-revision": "3",
    }
    await world.client.post("/v1/commands/a/process", json={}, headers=headers)
    (sent,) = world.gateway.commands
    assert sent.persisted == (Header("x-user", "ada"), Header("raw-bin", b"\xff\x00"))
    assert (sent.key, sent.expected_revision) == ("k", 3)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ((b"x-user", b"\xff"), 400),
        ((b"raw-bin", b"%%"), 400),
        ((b"x-cos-idempotency-key", "é".encode()), 400),
        ((b"x-cos-expected-revision", b"one"), 400),
        ((b"x-nobody-cares", b"\xff"), 200),
        ((b"nobody-cares-bin", b"%%"), 200),
    ],
)
async def test_a_header_that_matters_must_be_one_that_metadata_can_hold(
    world: World, header: tuple[bytes, bytes], status: int
) -> None:
    reply = await world.client.post("/v1/commands/a/process", json={}, headers=[header])
    assert reply.status_code == status


async def test_a_state_is_answered_and_an_entity_without_events_is_not_found(world: World) -> None:
    world.gateway.answer = ADA
    assert (await world.client.get("/v1/entities/a/state")).json()["meta"]["revision_number"] == 2
    world.gateway.answer = unborn(EntityId("a"))
    reply = await world.client.get("/v1/entities/a/state")
    assert (reply.status_code, reply.json()) == (404, {"error": "NOT_FOUND: "})


async def test_the_past_is_answered_in_pages(world: World) -> None:
    await world.journal.append(append_of("a", 0, events=5))
    first = (await world.client.get("/v1/entities/a/events?from=2&page_size=2")).json()
    assert [event["meta"]["revision_number"] for event in first["events"]] == [2, 3]
    last = (await world.client.get(f"/v1/entities/a/events?from={first['next_revision']}&to=5")).json()
    assert [event["meta"]["revision_number"] for event in last["events"]] == [4, 5]
    assert "next_revision" not in last
    assert (await world.client.get("/v1/entities/a/state?revision=3")).json()["meta"]["revision_number"] == 3
    assert (await world.client.get("/v1/entities/a/state?revision=9")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v1/entities/a/state?revision=x",
        "/v1/entities/a/state?revision=0",
        "/v1/entities/a/state?revision=1&at=2026-01-01",
        "/v1/entities/a/state?at=noon",
        "/v1/entities/a/state?any=xml",
        "/v1/entities/%FF/state",
        "/v1/entities/a%00/state",
        f"/v1/entities/{'x' * 256}/state",
        "/v1/entities/a/events?from=5000000000",
        "/v1/entities/a/events?page_size=1001",
        "/v1/entities?updated_since=x",
        "/v1/entities/a/events/stream?from_revision=x",
        "/v1/events/stream?from_offset=-1",
    ],
)
async def test_a_question_that_makes_no_sense_is_a_bad_request(world: World, path: str) -> None:
    reply = await world.client.get(path)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"].startswith("INVALID_ARGUMENT: ")


async def test_an_unknown_path_or_method_is_said_in_the_same_form(world: World) -> None:
    assert (await world.client.get("/v2")).json() == {"error": "NOT_FOUND: there is no such path"}
    reply = await world.client.delete("/v1/commands/a/process")
    assert (reply.status_code, reply.json()) == (
        405,
        {"error": "UNIMPLEMENTED: this path does not take DELETE"},
    )


async def test_with_grpc_alone_only_health_answers_over_http() -> None:
    world = await world_of(HttpPolicy())
    assert (await world.client.get("/alive")).json() == {"status": "alive"}
    # A probe is answered whatever it carries.
    assert (await world.client.get("/alive?probe=1&probe=2")).json() == {"status": "alive"}
    for path in ("/v1/entities/a/state", "/openapi.json", "/docs"):
        assert (await world.client.get(path)).status_code == 404


async def test_ready_names_what_does_not_work(world: World) -> None:
    world.broken.add("database")
    reply = await world.client.get("/ready")
    assert (reply.status_code, reply.json()) == (503, {"error": "UNAVAILABLE: not ready: database"})
    assert (await world.client.get("/alive")).status_code == 200


async def test_a_process_that_drains_is_not_ready(world: World) -> None:
    assert (await world.client.get("/ready")).status_code == 200
    await world.one.drain()
    assert (await world.client.get("/ready")).status_code == 503


def test_descriptor_sets_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no descriptor set"):
        AnyForms([b"\xff"])
    with pytest.raises(ValueError, match="holds no protos"):
        AnyForms([b""])
    lacking = descriptor_pb2.FileDescriptorSet(
        file=[descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["b.proto"])]
    )
    with pytest.raises(ValueError, match=r"lacks b\.proto"):
        AnyForms([lacking.SerializeToString()])
