"""Each port's implementations, the fake and the real one, under one name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pytest

from cos_ray.domain.ids import EntityId, Revision
from cos_ray.ports import DeadLetters, EventSource, Journal, OffsetStore, ReadSideControls
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.system.clock import SystemClock
from cos_ray.testing.dead_letters import MemoryDeadLetters
from cos_ray.testing.journal import MemoryJournal
from cos_ray.testing.offsets import MemoryReadSides
from tests.support.fixtures_postgres import connected


class AnyJournal(Journal, EventSource, Protocol):
    """Both sides of a journal."""


class MarkDeleted(Protocol):
    """Marks an entity's events as deleted, as Chief of State does."""

    def __call__(self, entity_id: EntityId, up_to: Revision) -> None: ...


@pytest.fixture(params=["memory", "postgres"])
async def journal(request: pytest.FixtureRequest) -> AsyncIterator[AnyJournal]:
    if request.param == "memory":
        yield MemoryJournal()
        return
    database: Database = request.getfixturevalue("database")
    journal = PostgresJournal(database)
    await journal.open()
    yield journal
    await journal.close()


@pytest.fixture
def mark_deleted(journal: AnyJournal, request: pytest.FixtureRequest) -> MarkDeleted:
    if isinstance(journal, MemoryJournal):
        return journal.mark_deleted

    def mark(entity_id: EntityId, up_to: Revision) -> None:
        query = "update event_journal set deleted = true where persistence_id = %s and sequence_number <= %s"
        with connected(request.getfixturevalue("database")) as connection:
            connection.execute(query, [entity_id, up_to])

    return mark


@pytest.fixture
def expire_keys(journal: AnyJournal, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Lets the time of every idempotency key be over."""
    if isinstance(journal, MemoryJournal):
        return journal.expire_keys

    def expire() -> None:
        with connected(request.getfixturevalue("database")) as connection:
            connection.execute("update cos_idempotency_keys set expires_at = now() - interval '1 s'")

    return expire


class PutOnRecord(Protocol):
    """Puts an entity on record as erased."""

    def __call__(self, entity_id: EntityId) -> None: ...


class AnyReadSides(Protocol):
    """All that is remembered of read sides."""

    @property
    def offsets(self) -> OffsetStore: ...

    @property
    def controls(self) -> ReadSideControls: ...

    @property
    def letters(self) -> DeadLetters: ...


class MemoryStores:
    """In memory."""

    def __init__(self) -> None:
        self.offsets = self.controls = MemoryReadSides(SystemClock())
        self.letters = MemoryDeadLetters(self.offsets.owner)


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[AnyReadSides]:
    if request.param == "memory":
        yield MemoryStores()
        return
    stores = PostgresReadSideStores(request.getfixturevalue("database"))
    await stores.open()
    yield stores
    await stores.close()


@pytest.fixture
def put_on_record(stores: AnyReadSides, request: pytest.FixtureRequest) -> PutOnRecord:
    if isinstance(stores, MemoryStores):
        return stores.letters.erased.add

    def put(entity_id: EntityId) -> None:
        with connected(request.getfixturevalue("database")) as connection:
            connection.execute("select cos_record_erasure(%s, null, '')", [entity_id])

    return put
