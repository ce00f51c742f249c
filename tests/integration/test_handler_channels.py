"""Channels to handlers as they are secured, pooled and kept: TLS that fits, and TLS that does not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from cos_ray.domain.errors import Code, HandlerFailed
from cos_ray.handlers.endpoints import Keepalive, Tls
from cos_ray.protocol.pb.chief_of_state.v1.writeside_pb2 import HandleCommandResponse
from tests.support import handler as kit
from tests.support.authority import Authority
from tests.support.handler import GrpcStage, HttpStage, ask

STAGES = [GrpcStage, HttpStage]
AnyStage = GrpcStage | HttpStage


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def secured(
    stage: AnyStage, authority: Authority, name: str = "127.0.0.1", wants_client: bool = False, port: int = 0
) -> AsyncIterator[int]:
    """The stage behind TLS, with a certificate for this name."""
    certificate, key = authority.issue(name)
    if isinstance(stage, GrpcStage):
        contents = [contents_of(file) for file in (key, certificate, authority.ca_file)]
        credentials = grpc.ssl_server_credentials(
            [(contents[0], contents[1])], contents[2] if wants_client else None, wants_client
        )
        async with stage.listening(port, credentials) as bound:
            yield bound
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if wants_client:
            context.load_verify_locations(authority.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        async with stage.listening(port, context) as bound:
            yield bound


def contents_of(file: str) -> bytes:
    return Path(file).read_bytes()


async def code_of(stage: AnyStage, port: int, tls: Tls | None, **more: Any) -> Code:
    """How one call ends."""
    handler = kit.built(stage.target("127.0.0.1", port, tls, **more))
    try:
        await ask(handler, timeout=10)
    except HandlerFailed as error:
        return error.status.code
    finally:
        await handler.close()
    return Code.OK


@pytest.mark.parametrize("kind", STAGES)
class TestTls:
    async def test_with_an_authority_of_ones_own_is_trusted(
        self, kind: type[AnyStage], authority: Authority
    ) -> None:
        stage = kind()
        async with secured(stage, authority) as port:
            assert await code_of(stage, port, Tls(authority.ca_file)) is Code.OK

    async def test_of_a_stranger_is_not(self, kind: type[AnyStage], authority: Authority) -> None:
        stage = kind()
        async with secured(stage, authority) as port:
            assert await code_of(stage, port, Tls()) is Code.UNAVAILABLE
        assert stage.requests == []

    async def test_with_the_system_s_authorities_is_trusted(
        self, kind: type[AnyStage], authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
        stage = kind()
        async with secured(stage, authority) as port:
            assert await code_of(stage, port, Tls()) is Code.OK

    async def test_for_another_name_is_trusted_only_when_told_so(
        self, kind: type[AnyStage], authority: Authority
    ) -> None:
        stage = kind()
        async with secured(stage, authority, "bank.internal") as port:
            assert await code_of(stage, port, Tls(authority.ca_file)) is Code.UNAVAILABLE
            named = Tls(authority.ca_file, server_name="bank.internal")
            assert await code_of(stage, port, named) is Code.OK

    async def test_that_wants_a_client_certificate_gets_it(
        self, kind: type[AnyStage], authority: Authority
    ) -> None:
        stage = kind()
        certificate, key = authority.issue("the-service")
        async with secured(stage, authority, wants_client=True) as port:
            assert await code_of(stage, port, Tls(authority.ca_file)) is Code.UNAVAILABLE
            assert await code_of(stage, port, Tls(authority.ca_file, certificate, key)) is Code.OK

    async def test_where_we_speak_none_is_unavailable_until_it_is_plain(
        self, kind: type[AnyStage], authority: Authority
    ) -> None:
        stage = kind()
        async with secured(stage, authority) as port:
            handler = kit.built(stage.target("127.0.0.1", port))
            with pytest.raises(HandlerFailed) as caught:
                await ask(handler)
            assert caught.value.status.code is Code.UNAVAILABLE
        async with stage.listening(port):
            await kit.until_answered(handler)
        await handler.close()

    async def test_where_the_handler_speaks_none_is_unavailable_until_it_does(
        self, kind: type[AnyStage], authority: Authority
    ) -> None:
        stage = kind()
        async with stage.listening() as port:
            handler = kit.built(stage.target("127.0.0.1", port, Tls(authority.ca_file)))
            with pytest.raises(HandlerFailed) as caught:
                await ask(handler)
            assert caught.value.status.code is Code.UNAVAILABLE
        async with secured(stage, authority, port=port):
            await kit.until_answered(handler)
        await handler.close()

    async def test_with_a_file_that_is_gone_is_unavailable(
        self, kind: type[AnyStage], authority: Authority
    ) -> None:
        assert await code_of(kind(), 1, Tls(str(authority.folder / "none.pem"))) is Code.UNAVAILABLE

    async def test_with_a_file_that_holds_something_else_is_unavailable(
        self, kind: type[AnyStage], authority: Authority
    ) -> None:
        garbage = authority.folder / "garbage.pem"
        garbage.write_text("no certificate")
        stage = kind()
        async with secured(stage, authority) as port:
            assert await code_of(stage, port, Tls(str(garbage))) is Code.UNAVAILABLE


async def test_calls_take_turns_on_the_channels_of_the_pool() -> None:
    stage = GrpcStage()
    peers = set()

    async def note(request: object) -> object:
        return HandleCommandResponse()

    stage.answer = note
    original = stage._method

    async def method(request: Any, context: Any) -> bytes:
        peers.add(context.peer())
        return await original(request, context)

    stage._method = method  # type: ignore[method-assign]
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port, pool_size=3))
        for _ in range(6):
            await ask(handler)
        await handler.close()
        await handler.close()
        await ask(handler)
        await handler.close()
    assert len(peers) >= 3


async def test_keepalive_pings_do_not_disturb_calls() -> None:
    stage = GrpcStage()
    async with stage.listening() as port:
        assert await code_of(stage, port, None, keepalive=Keepalive(10_000, 5_000, True)) is Code.OK


@pytest.mark.parametrize("kind", STAGES)
async def test_a_message_beyond_the_limit_is_not_sent(kind: type[AnyStage]) -> None:
    stage = kind()
    async with stage.listening() as port:
        handler = kit.built(stage.target("127.0.0.1", port, message_limit=2_000))
        with pytest.raises(HandlerFailed) as caught:
            await ask(handler, kit.OpenAccount(owner="x" * 5_000))
        assert caught.value.status.code is Code.RESOURCE_EXHAUSTED
        assert "COS_HANDLER_MAX_MESSAGE_BYTES allows more" in caught.value.status.message
        assert stage.requests == []
        await ask(handler)
        await handler.close()
