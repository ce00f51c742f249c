"""One Ray cluster for all tests here; a namespace, a schema and handlers for each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import pytest
import ray

from cos_ray.bootstrap.entity_spec import EntitySpec
from cos_ray.bootstrap.ingress import entities_of
from cos_ray.bootstrap.journal import build_journal
from cos_ray.bootstrap.process_coordinator import process_coordinator_spec
from cos_ray.cluster.dedicated_entities import DedicatedEntities
from cos_ray.cluster.journal_actor import JournalSpec
from cos_ray.cluster.runtime import RayCluster, stop_actors
from cos_ray.domain.ids import EntityId
from cos_ray.domain.types import EntityPolicy
from cos_ray.handlers.endpoints import GrpcEndpoint
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.system.clock import SystemClock
from cos_ray.telemetry.logs import LogSettings
from cos_ray.testing.history import faults_of_calls
from cos_ray.transport.lazy_pickle import pickle_lazily
from cos_ray.writeside.router import Router
from tests.cluster.ledger import Clients, LedgerHandler
from tests.support.journal import SHARDS, read_all
from tests.support.running_ray import LiveActor, RayHead, live_actors

LOGS = LogSettings("WARN", "SIMPLE", "tests")
_numbers = count(1)


@pytest.fixture(scope="package")
def ray_head() -> Iterator[RayHead]:
    """The cluster; this process is connected to it."""
    head = RayHead()
    try:
        head.start()
        ray.init(address=head.address, logging_level="ERROR", log_to_driver=False)
        yield head
    finally:
        ray.shutdown()
        head.end()


@dataclass
class Cluster:
    """The write side as a replica of the ingress has it, with all there is to lose behind it."""

    head: RayHead
    namespace: str
    spec: EntitySpec
    database: Database
    journal: PostgresJournal
    handler: LedgerHandler
    router: Router

    def clients(self, router: Router | None = None) -> Clients:
        """Clients of the router."""
        router = router or self.router
        return Clients(router.process, router.state)

    def new_router(self) -> Router:
        """Another replica's."""
        return router_of(self.spec, self.journal)

    def actors(self, beginning: str) -> list[LiveActor]:
        """The live actors whose names begin so."""
        found = live_actors(self.head.dashboard, beginning)
        return [actor for actor in found if actor.namespace == self.namespace]

    async def one(self, beginning: str) -> LiveActor:
        """The only live actor whose name begins so, as soon as there is one."""
        for _ in range(400):
            found = await asyncio.to_thread(self.actors, beginning)
            if len(found) == 1:
                return found[0]
            await asyncio.sleep(0.05)
        raise AssertionError(f"no single {beginning} but {found}")

    def entity_of(self, actor: LiveActor) -> EntityId:
        """Whose actor it is."""
        return EntityId(actor.name.removeprefix("entity:"))

    @asynccontextmanager
    async def under_load(
        self, entity_ids: list[EntityId], clients: int, chance: random.Random
    ) -> AsyncIterator[Clients]:
        """Let so many clients send commands to these entities all the while, and judge what comes of it."""
        load = self.clients()
        seeds = [random.Random(chance.random()) for _ in range(clients)]
        running = [asyncio.create_task(load.run(entity_ids, seed)) for seed in seeds]
        try:
            yield load
        finally:
            load.stop()
            await asyncio.gather(*running)
        await self.judge(load)

    async def judge(self, clients: Clients) -> None:
        """Fail unless every answer was honest and the journal holds what it should."""
        assert clients.dishonest == []
        assert faults_of_calls(await read_all(self.journal), clients.calls) == []


def router_of(spec: EntitySpec, journal: PostgresJournal) -> Router:
    """What an ingress replica has."""
    if spec.is_sharded:
        return Router(entities_of(spec), journal, SystemClock())
    # Without the coordinator's early start: a test may want other limits first.
    entities = DedicatedEntities(process_coordinator_spec(spec))
    return Router(entities, journal, SystemClock())


@pytest.fixture
async def handler() -> AsyncIterator[LedgerHandler]:
    """The write handler and the read handler, listening."""
    handler = LedgerHandler()
    await handler.start()
    yield handler
    await handler.stop()


@pytest.fixture
async def cluster(ray_head: RayHead, database: Database, handler: LedgerHandler) -> AsyncIterator[Cluster]:
    """Nothing runs in it yet but the handlers."""
    namespace = f"cos-tests-{next(_numbers)}"
    spec = EntitySpec(
        namespace=namespace,
        shards=SHARDS,
        write_handler=GrpcEndpoint("127.0.0.1", handler.port),
        call_timeout=timedelta(seconds=60),
        breaker=None,
        policy=EntityPolicy(),
        logs=LOGS,
        journal=JournalSpec(pickle_lazily(build_journal, LOGS, database)),
    )
    journal = await build_journal(LOGS, database)
    try:
        yield Cluster(ray_head, namespace, spec, database, journal, handler, router_of(spec, journal))
    finally:
        await asyncio.to_thread(stop_actors, RayCluster(namespace, False, 1, None), timedelta(seconds=5))
        await journal.close()


@pytest.fixture
def chance() -> random.Random:
    """Randomness whose seed is known when a test fails."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)
