"""An ingress replica over fakes that listens on ports of this machine, as clients reach it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio
import httpx
from google.protobuf.any_pb2 import Any as PbAny

from cos_ray.domain.authorization import AccessPolicy
from cos_ray.domain.ids import EntityId
from cos_ray.domain.messages import Accepted, EntityState
from cos_ray.ingress.admission import AdmissionPolicy
from cos_ray.ingress.command_policy import CommandPolicy
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.listener_settings import ListenerBounds, ListenerSettings
from cos_ray.ingress.replica import ListeningIngress
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2 import ProcessCommandRequest
from cos_ray.protocol.pb.chief_of_state.v1.service_pb2_grpc import ChiefOfStateServiceStub
from cos_ray.subscriptions.subscriptions import Subscriptions
from cos_ray.system.certificates import TlsFiles
from cos_ray.system.clock import SystemClock
from cos_ray.system.free_port import free_port
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.meters import ScriptOfMeters
from tests.support.http import ADA, BANK, AnyForms
from tests.unit.test_ingress import Gateway, built


class Entities(Gateway):
    """Each of them has the same state."""

    async def state(self, entity_id: EntityId) -> EntityState:
        return ADA


@dataclass
class FrontDoor:
    """A listening replica, and what it stands in front of."""

    replica: ListeningIngress
    settings: ListenerSettings
    gateway: Gateway
    journal: MemoryJournal
    subscriptions: Subscriptions
    meter: ScriptOfMeters

    def refusals(self, door: str, cause: str) -> int:
        """How many of this door and cause were counted."""
        return len(self.meter.of(f"refused: {door} {cause}"))

    @property
    def grpc(self) -> str:
        """Where gRPC clients reach it."""
        return f"127.0.0.1:{self.settings.grpc_port}"

    @property
    def http(self) -> str:
        """Where HTTP clients reach it."""
        return f"http://127.0.0.1:{self.settings.http_port}"

    @asynccontextmanager
    async def client(self, *options: tuple[str, object]) -> AsyncIterator[ChiefOfStateServiceStub]:
        """A client on a connection of its own."""
        own = ("grpc.use_local_subchannel_pool", 1)
        async with grpc.aio.insecure_channel(self.grpc, [own, *options]) as channel:
            yield ChiefOfStateServiceStub(channel)

    async def http_bytes(self, sent: bytes, within: float = 5.0) -> bytes:
        """What comes back for these bytes until the server closes the connection."""
        return await exchanged(self.settings.http_port, sent, within)

    async def grpc_bytes(self, sent: bytes, within: float = 5.0) -> bytes:
        """The same of the gRPC port."""
        return await exchanged(self.settings.grpc_port, sent, within)


COMMAND = ProcessCommandRequest(entity_id="a/b", command=PbAny(type_url="t/C", value=b"c"))


async def answers(door: FrontDoor) -> None:
    """Fail unless commands of a new client are answered, on both ports."""
    async with door.client() as client:
        await client.ProcessCommand(COMMAND, timeout=1.5)
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{door.http}/ready", timeout=1.5)).status_code == 200


async def exchanged(port: int, sent: bytes, within: float) -> bytes:
    """What a server answers to raw bytes until it closes the connection. Raises TimeoutError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(_to_the_end(reader), within)
    finally:
        writer.close()


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    got = bytearray()
    try:
        while chunk := await reader.read(65536):
            got += chunk
    except ConnectionError:
        pass  # closed by force, which is an end, too
    return bytes(got)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], within: float = 10.0) -> None:
    """Wait for a condition; fail after so many seconds."""
    deadline = time.monotonic() + within
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def front_door(
    bounds: Mapping[str, object] | None = None,
    access: AccessPolicy | None = None,
    policy: CommandPolicy | None = None,
    port: int | None = None,
    tls: TlsFiles | None = None,
) -> AsyncIterator[FrontDoor]:
    """One that offers everything, within `bounds` (fields of `ListenerBounds`); closed at the end."""
    limits = ListenerBounds(**(bounds or {}))  # type: ignore[arg-type]
    settings = ListenerSettings(
        grpc_host="127.0.0.1",
        grpc_port=port or free_port(),
        http_host="127.0.0.1",
        http_port=free_port(),
        tls=tls,
        grace=1.0,
        bounds=limits,
    )
    gateway, journal = Entities(Accepted(ADA)), MemoryJournal()
    admission = AdmissionPolicy(
        request_bytes=limits.request_bytes, metadata_bytes=limits.metadata_bytes, access=access
    )
    subscriptions = Subscriptions(journal, SystemClock())
    meter = ScriptOfMeters()
    replica: ListeningIngress = await built(
        ListeningIngress,
        gateway,
        policy,
        subscriptions=subscriptions,
        history=journal,
        admission=admission,
        http=HttpPolicy(api=True, largest_body=limits.request_bytes),
        listeners=settings,
        meter=meter,
        any_forms=AnyForms([BANK]),
    )
    try:
        yield FrontDoor(replica, settings, gateway, journal, subscriptions, meter)
    finally:
        await replica.drain()
        await replica.end()
