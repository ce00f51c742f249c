"""TLS on a replica's own ports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import httpx
import pytest

from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.system.certificates import TlsFiles
from tests.integration.test_front_door import COMMAND
from tests.support.authority import Authority
from tests.support.front_door import FrontDoor, eventually, exchanged, front_door

NAME = "localhost"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def client(
    door: FrontDoor, authority: Authority, name: str | None = None
) -> AsyncIterator[ChiefOfStateServiceStub]:
    """One that trusts the authority, and shows a certificate of this name if there is one."""
    key, chain = (None, None) if name is None else _files(authority, name)
    credentials = grpc.ssl_channel_credentials(_read(authority.ca_file), key, chain)
    options = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(door.grpc, credentials, options) as channel:
        yield ChiefOfStateServiceStub(channel)


def _files(authority: Authority, name: str) -> tuple[bytes, bytes]:
    chain, key = authority.issue(name)
    return _read(key), _read(chain)


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def https(authority: Authority, name: str | None = None) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=authority.ca_file)
    if name is not None:
        context.load_cert_chain(*authority.issue(name))
    return httpx.AsyncClient(verify=context)


def url_of(door: FrontDoor) -> str:
    return f"https://{NAME}:{door.settings.http_port}/ready"


async def test_both_ports_speak_tls_and_plain_text_is_refused(authority: Authority) -> None:
    async with front_door(tls=TlsFiles(*authority.issue(NAME))) as door:
        async with client(door, authority) as service, https(authority) as http:
            await service.ProcessCommand(COMMAND, timeout=5)
            assert (await http.get(url_of(door))).status_code == 200
        async with door.client() as plain:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await plain.ProcessCommand(COMMAND, timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        await door.grpc_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await door.http_bytes(b"GET /alive HTTP/1.1\r\nhost: a\r\n\r\n")
        async with client(door, authority) as service:
            await service.ProcessCommand(COMMAND, timeout=5)


async def test_with_an_authority_for_clients_only_those_with_a_certificate_of_it_come_in(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    files = TlsFiles(*authority.issue(NAME), ca=authority.ca_file)
    async with front_door(tls=files) as door:
        async with client(door, authority, "shop") as service, https(authority, "shop") as http:
            await service.ProcessCommand(COMMAND, timeout=5)
            assert (await http.get(url_of(door))).status_code == 200
        async with client(door, authority) as service:
            with pytest.raises(grpc.aio.AioRpcError):
                await service.ProcessCommand(COMMAND, timeout=5)
        async with https(authority) as http:
            with pytest.raises(httpx.HTTPError):
                await http.get(url_of(door))
        key, chain = _files(stranger, "shop")
        credentials = grpc.ssl_channel_credentials(_read(authority.ca_file), key, chain)
        options = [("grpc.ssl_target_name_override", NAME)]
        async with grpc.aio.secure_channel(door.grpc, credentials, options) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await ChiefOfStateServiceStub(channel).ProcessCommand(COMMAND, timeout=5)


async def test_a_changed_certificate_is_used_for_new_connections_and_drops_none(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue(NAME)
    async with front_door(tls=TlsFiles(certificate, key)) as door, client(door, authority) as service:
        await service.ProcessCommand(COMMAND, timeout=5)
        before = await served(door)
        # No key any more: the former ones stay in use.
        await asyncio.to_thread(Path(key).write_text, "no key")
        assert await served(door) == before
        authority.issue(NAME)

        async def differ() -> bool:
            return all(one != other for one, other in zip(await served(door), before, strict=True))

        await eventually(differ)
        # The connection that was there is the one it was.
        await service.ProcessCommand(COMMAND, timeout=5)


async def served(door: FrontDoor) -> list[str]:
    """The certificates that new connections are shown."""
    ports = (door.settings.grpc_port, door.settings.http_port)
    asking = [asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=5) for port in ports]
    return await asyncio.gather(*asking)


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a handshake begins."""


@pytest.mark.parametrize("sent", [b"", HELLO], ids=["nothing", "half a handshake"])
async def test_who_does_not_go_on_with_the_handshake_is_cut_off_when_the_time_for_it_is_over(
    authority: Authority, sent: bytes
) -> None:
    bounds = {"header_seconds": 0.5}
    async with front_door(bounds, tls=TlsFiles(*authority.issue(NAME))) as door, https(authority) as http:
        ports = (door.settings.grpc_port, door.settings.http_port)
        waiting = [
            asyncio.ensure_future(exchanged(port, sent, within=15.0)) for port in ports for _ in range(20)
        ]
        # Nobody waits for them.
        assert (await http.get(url_of(door), timeout=5)).status_code == 200
        async with client(door, authority) as service:
            await service.ProcessCommand(COMMAND, timeout=5)
        assert set(await asyncio.gather(*waiting)) <= {b""}


async def test_connections_within_their_handshake_count_among_those_there_may_be(
    authority: Authority,
) -> None:
    bounds = {"header_seconds": 60.0, "connections_per_address": 10}
    async with front_door(bounds, tls=TlsFiles(*authority.issue(NAME))) as door, https(authority) as http:
        port = door.settings.http_port
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        # One more is closed at once.
        assert await exchanged(port, b"", within=10.0) == b""
        for _, writer in held:
            writer.close()

        async def there_is_room() -> bool:
            try:
                return (await http.get(url_of(door), timeout=5)).status_code == 200
            except httpx.HTTPError:
                return False

        await eventually(there_is_room)


async def test_large_answers_and_bodies_pass_over_tls_and_connections_are_used_again(
    authority: Authority,
) -> None:
    async with front_door(tls=TlsFiles(*authority.issue(NAME))) as door, https(authority) as http:
        path = f"https://{NAME}:{door.settings.http_port}/v1/commands/a/process"
        for _ in range(20):
            assert (await http.post(path, json={"padding": "x" * 200_000})).status_code in (200, 400)
        assert (await http.get(url_of(door).replace("/ready", "/openapi.json"))).status_code == 200


async def test_handshakes_that_fail_over_http_are_counted(authority: Authority) -> None:
    async with front_door(tls=TlsFiles(*authority.issue(NAME))) as door:
        await exchanged(door.settings.http_port, b"GET /alive HTTP/1.1\r\nhost: a\r\n\r\n", 5)
        await eventually(lambda: door.refusals("http", "tls") == 1)
