"""Who is let in, to what, and how often: by gRPC and by HTTP alike."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.protobuf.any_pb2 import Any as PbAny

from cos_ray.config.access_file import read_access_file
from cos_ray.domain.authorization import AccessPolicy, Caller, Rule
from cos_ray.domain.errors import Code, ConfigurationError
from cos_ray.domain.rate_limit import Rate
from cos_ray.ingress.admission import AdmissionPolicy
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.service import SERVICES, Ingress
from cos_ray.ingress.status import StreamRefused
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import (
    GetStateRequest,
    ProcessCommandRequest,
    SubscribeAllRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import GetStatesRequest, ListEntitiesRequest
from tests.unit.test_ingress import Context, Gateway, ingress

TOKEN = "a token of the shop"
CARTS = Rule(("ProcessCommand", "Get*", "Subscribe", "ListEntities"), ("cart-", "basket-"))
SHOP = AccessPolicy({hashlib.sha256(TOKEN.encode()).hexdigest(): Caller("shop", (CARTS,))})


def bearer(token: str = TOKEN) -> Context:
    return Context([("authorization", f"Bearer {token}")])


async def guarded(policy: AdmissionPolicy) -> Ingress:
    return await ingress(Gateway(), admission=policy, http=HttpPolicy(api=True))


async def code_of(one: Ingress, method: str, request: Any, context: Context) -> grpc.StatusCode | None:
    if method.startswith("Subscribe"):
        with pytest.raises(StreamRefused):
            await anext(getattr(one, method)(request, context))
    else:
        await getattr(one, method)(request, context)
    return context.code


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, grpc.StatusCode.UNAUTHENTICATED),
        ("Bearer wrong", grpc.StatusCode.UNAUTHENTICATED),
        ("Bearer", grpc.StatusCode.UNAUTHENTICATED),
        (f"Basic {TOKEN}", grpc.StatusCode.UNAUTHENTICATED),
        (f"Bearer {TOKEN}", None),
        (f"bearer  {TOKEN} ", None),
    ],
)
async def test_without_a_known_token_nothing_is_answered(
    authorization: str | None, code: grpc.StatusCode | None
) -> None:
    one = await guarded(AdmissionPolicy(access=SHOP))
    context = Context([("authorization", authorization)] if authorization else [])
    assert await code_of(one, "ProcessCommand", ProcessCommandRequest(entity_id="cart-1"), context) is code
    assert TOKEN not in context.details


async def test_two_tokens_are_none() -> None:
    one = await guarded(AdmissionPolicy(access=SHOP))
    context = Context([("authorization", f"Bearer {TOKEN}")] * 2)
    code = await code_of(one, "GetState", GetStateRequest(entity_id="cart-1"), context)
    assert code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("method", "request_", "is_allowed"),
    [
        ("ProcessCommand", ProcessCommandRequest(entity_id="cart-1"), True),
        ("ProcessCommand", ProcessCommandRequest(entity_id="account-1"), False),
        ("ProcessCommand", ProcessCommandRequest(entity_id="car"), False),
        ("GetStates", GetStatesRequest(entity_ids=["cart-1", "basket-2"]), True),
        ("GetStates", GetStatesRequest(entity_ids=["cart-1", "account-1"]), False),
        ("ListEntities", ListEntitiesRequest(prefix="cart-1", updated_since=None), True),
        ("ListEntities", ListEntitiesRequest(prefix="c"), False),
        ("ListEntities", ListEntitiesRequest(), False),
        ("Subscribe", SubscribeRequest(entity_id="account-1"), False),
        ("SubscribeAll", SubscribeAllRequest(), False),
        ("Unsubscribe", UnsubscribeRequest(subscription_id="s"), False),
    ],
)
async def test_what_no_rule_allows_is_denied(method: str, request_: Any, is_allowed: bool) -> None:
    one = await guarded(AdmissionPolicy(access=SHOP))
    code = await code_of(one, method, request_, bearer())
    assert (code is not grpc.StatusCode.PERMISSION_DENIED) is is_allowed


async def test_a_request_about_millions_of_entities_is_refused_before_they_are_looked_at() -> None:
    for access in (None, SHOP):
        one = await guarded(AdmissionPolicy(access=access))
        # One id, so that the page's own bound on different ones lets it pass.
        request = GetStatesRequest(entity_ids=["cart-1"] * 10_001)
        assert await code_of(one, "GetStates", request, bearer()) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_every_method_but_health_is_guarded() -> None:
    one = await guarded(AdmissionPolicy(access=SHOP))
    from google.protobuf import descriptor_pool, message_factory

    for service in SERVICES[:-1]:
        for method in descriptor_pool.Default().FindServiceByName(service).methods:
            request = message_factory.GetMessageClass(method.input_type)()
            code = await code_of(one, method.name, request, Context())
            assert code is grpc.StatusCode.UNAUTHENTICATED, method.full_name
    assert SERVICES[-1] == "grpc.health.v1.Health"


async def test_over_http_the_same_rules_hold_and_health_is_open() -> None:
    one = await guarded(AdmissionPolicy(access=SHOP))
    transport = httpx.ASGITransport(one.__serve_build_asgi_app__())
    async with httpx.AsyncClient(transport=transport, base_url="http://cos") as client:
        mine = {"authorization": f"Bearer {TOKEN}"}
        refused = await client.post("/v1/commands/cart-1/process")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.post("/v1/commands/cart-1/process", json={}, headers=mine)).status_code == 200
        assert (await client.post("/v1/commands/account-1/process", json={}, headers=mine)).status_code == 403
        assert (await client.get("/v1/events/stream", headers=mine)).status_code == 403
        for path in ("/ready", "/alive"):
            assert (await client.get(path)).status_code == 200


KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)

AUTH_FILE = """
tokens:
  - {name: ops, token: sixteen characters, allow: [{methods: ["*"]}]}
jwt:
  key_file: idp.pem
  audience: cos
  issuer: me
  allow: [{methods: [GetState], entities: [cart-]}]
  roles: {writer: [{methods: [ProcessCommand]}]}
"""


@pytest.fixture
def auth_file(tmp_path: Path) -> Path:
    (tmp_path / "idp.pem").write_bytes(PUBLIC)
    path = tmp_path / "auth.yaml"
    path.write_text(AUTH_FILE)
    return path


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "ada", "aud": "cos", "iss": "me", "exp": time.time() + 600, **more}


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (lambda: jwt.encode(claims(), KEY, "RS256"), None),
        (lambda: jwt.encode(claims(exp=time.time() - 600), KEY, "RS256"), Code.UNAUTHENTICATED),
        (lambda: jwt.encode(claims(aud="others"), KEY, "RS256"), Code.UNAUTHENTICATED),
        (lambda: jwt.encode(claims(iss="others"), KEY, "RS256"), Code.UNAUTHENTICATED),
        (lambda: jwt.encode({"sub": "ada", "aud": "cos", "iss": "me"}, KEY, "RS256"), Code.UNAUTHENTICATED),
        (lambda: jwt.encode(claims(), None, "none"), Code.UNAUTHENTICATED),
        (lambda: jwt.encode(claims(), "x" * 32, "HS256"), Code.UNAUTHENTICATED),
        (
            lambda: jwt.encode(claims(), rsa.generate_private_key(65537, 2048), "RS256"),
            Code.UNAUTHENTICATED,
        ),
        (lambda: "a.b.c", Code.UNAUTHENTICATED),
        (lambda: "sixteen characters", None),
    ],
)
async def test_a_token_is_believed_if_it_is_signed_in_time_and_for_us(
    auth_file: Path, token: Callable[[], str], code: Code | None
) -> None:
    one = await guarded(AdmissionPolicy(access=read_access_file(auth_file)))
    context = bearer(token())
    await code_of(one, "GetState", GetStateRequest(entity_id="cart-1"), context)
    assert (context.code is grpc.StatusCode.UNAUTHENTICATED) is (code is not None)


async def test_roles_in_a_token_add_to_what_everybody_may(auth_file: Path) -> None:
    one = await guarded(AdmissionPolicy(access=read_access_file(auth_file)))
    for roles, code in (
        (["writer"], None),
        ("writer", None),
        (["reader", 5], grpc.StatusCode.PERMISSION_DENIED),
        ({"writer": 1}, grpc.StatusCode.PERMISSION_DENIED),
    ):
        context = bearer(jwt.encode(claims(roles=roles), KEY, "RS256"))
        request = ProcessCommandRequest(entity_id="x", command=PbAny())
        assert await code_of(one, "ProcessCommand", request, context) is code


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[", "is no YAML"),
        ("", "nobody could call anything"),
        ("tokens: [{name: a, allow: []}]", "give one of token and token_sha256"),
        ("tokens: [{name: a, token: short, allow: []}]", "at least 16 characters"),
        ("tokens: [{name: a, token: sixteen characters, alow: []}]", "allow"),
        ("tokens: [{name: a, token: sixteen characters, allow: [{methods: []}]}]", "methods"),
        (
            "tokens:\n- name: a\n  token: sixteen characters\n  allow: []\n  allow: [{methods: ['*']}]\n",
            "line 5: allow is set twice, first in line 4",
        ),
        (
            "tokens: []\njwt: {key_file: idp.pem}\ntokens: []\n",
            "line 3: tokens is set twice, first in line 1",
        ),
        ("jwt: {key_file: nowhere.pem}", "cannot be read"),
        ("jwt: {key_file: idp.pem, algorithms: [none]}", "'none'; allowed: HS256"),
        ("jwt: {key_file: idp.pem, algorithms: [HS256, RS256]}", "cannot be the same"),
        ("jwt: {key_file: short, algorithms: [HS256]}", "at least 32 characters"),
        ("jwt: {key_file: private.pem}", "no public key"),
        (
            "tokens: [{name: a, token: sixteen characters, allow: []}, "
            "{name: b, token: sixteen characters, allow: []}]",
            "a and b have the same token",
        ),
    ],
)
def test_a_file_that_makes_no_sense_is_named_and_shows_no_secret(
    auth_file: Path, content: str, text: str
) -> None:
    auth_file.write_text(content)
    (auth_file.parent / "short").write_text("secret")
    (auth_file.parent / "private.pem").write_text("-----BEGIN PRIVATE KEY-----")
    with pytest.raises(ConfigurationError) as wrong:
        read_access_file(auth_file)
    message = str(wrong.value)
    assert message.startswith("COS_AUTH_FILE ")
    assert text in message
    assert "\n" not in message
    assert "sixteen" not in message


async def test_what_is_too_large_is_refused() -> None:
    one = await guarded(AdmissionPolicy(request_bytes=1_000, metadata_bytes=500))
    large = ProcessCommandRequest(entity_id="a", command=PbAny(value=b"x" * 1_000))
    assert await code_of(one, "ProcessCommand", large, Context()) is grpc.StatusCode.RESOURCE_EXHAUSTED
    many: list[tuple[str, str | bytes]] = [("k", "")] * 20
    small = ProcessCommandRequest(entity_id="a")
    assert await code_of(one, "ProcessCommand", small, Context(many)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await code_of(one, "ProcessCommand", small, Context(many[:10])) is None


async def test_with_http_alone_grpc_is_refused_but_for_health() -> None:
    one = await guarded(AdmissionPolicy(grpc=False))
    code = await code_of(one, "GetState", GetStateRequest(entity_id="a"), Context())
    assert code is grpc.StatusCode.UNIMPLEMENTED
    transport = httpx.ASGITransport(one.__serve_build_asgi_app__())
    async with httpx.AsyncClient(transport=transport, base_url="http://cos") as client:
        assert (await client.post("/v1/commands/a/process", json={})).status_code == 200


async def test_a_client_that_asks_too_often_waits_and_others_do_not() -> None:
    one = await guarded(AdmissionPolicy(requests_per_second=2))

    async def asks(address: str) -> bool:
        context = Context([("x-forwarded-for", f"spoofed, {address}")])
        await one.ProcessCommand(ProcessCommandRequest(entity_id="a"), context)
        return context.code is None

    answered = [await asks("10.0.0.1") for _ in range(20)]
    assert answered[:2] == [True, True]
    assert not all(answered)
    assert await asks("10.0.0.2")


def test_a_rate_lets_through_a_seconds_worth_and_then_so_many_in_a_second() -> None:
    rate = Rate(per_second=10, clients=2)
    assert sum(rate.takes("a", 0.0) for _ in range(50)) == 10
    assert sum(rate.takes("a", 0.5) for _ in range(50)) == 5
    assert sum(rate.takes("a", 100.0) for _ in range(50)) == 10
    for client in ("b", "c"):
        assert rate.takes(client, 100.0)
    assert len(rate._buckets) == 2
