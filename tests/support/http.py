"""An ingress over fakes, as HTTP clients see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from google.protobuf import descriptor_pb2
from google.protobuf.any import pack

from cos_ray.domain.ids import EntityId, Revision
from cos_ray.domain.messages import Accepted, EntityState, Header, Meta, Packed
from cos_ray.ingress.grpc_bridge import HttpPolicy
from cos_ray.ingress.service import CommandPolicy, Ingress
from cos_ray.protocol.any_form import AnyForms
from cos_ray.samples.bank.pb.bank.v1 import bank_pb2
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account
from cos_ray.subscriptions.subscriptions import Subscriptions
from cos_ray.system.clock import SystemClock
from cos_ray.testing.journal import MemoryJournal
from tests.support.journal import DATE
from tests.unit.test_ingress import Gateway, ingress

BANK = descriptor_pb2.FileDescriptorSet(
    file=[descriptor_pb2.FileDescriptorProto.FromString(bank_pb2.DESCRIPTOR.serialized_pb)]
).SerializeToString()

ADA = EntityState(
    Packed(pack(Account(owner="Ada", balance=5)).SerializeToString()),
    Meta(EntityId("a/b"), Revision(2), DATE, (Header("x-user", "ada"),)),
    Revision(2),
)


@dataclass
class World:
    """An ingress over fakes, and a client of its HTTP side."""

    client: httpx.AsyncClient
    gateway: Gateway
    journal: MemoryJournal
    subscriptions: Subscriptions
    one: Ingress
    broken: set[str] = field(default_factory=set)


async def world_of(policy: HttpPolicy) -> World:
    gateway, journal = Gateway(Accepted(ADA)), MemoryJournal()
    subscriptions = Subscriptions(journal, SystemClock())
    broken: set[str] = set()

    async def database() -> None:
        if "database" in broken:
            raise OSError

    one = await ingress(
        gateway,
        CommandPolicy(5.0, persisted_headers=("x-user", "raw-bin")),
        subscriptions=subscriptions,
        history=journal,
        http=policy,
        any_forms=AnyForms([BANK]),
        checks={"database": database},
    )
    transport = httpx.ASGITransport(one.__serve_build_asgi_app__(), raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://cos")
    return World(client, gateway, journal, subscriptions, one, broken)


@asynccontextmanager
async def http_world(largest_body: int = 10_000) -> AsyncIterator[World]:
    """One that offers all, closed at the end."""
    watched = frozenset({"x-user", "raw-bin"})
    world = await world_of(HttpPolicy(api=True, largest_body=largest_body, watched_headers=watched))
    try:
        yield world
    finally:
        world.subscriptions.close()
        await world.client.aclose()
