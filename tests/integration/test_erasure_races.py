"""Erasure against what runs at the same time: read sides, snapshots, statements that were held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from cos_ray.domain.erasure import redacted_event, says_nothing
from cos_ray.domain.errors import EntityIsErased, JournalUnavailable
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, ReleaseId, Shard
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.retention import Retention
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.domain.sharding import shard_of
from cos_ray.ingress.erasure_methods import ErasureMethods
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.system.clock import SystemClock
from cos_ray.testing.read_handlers import Attempt, RecordingReadHandler
from tests.integration.test_erasure import Entities, Parts, erase, everything
from tests.support.fixtures_postgres import connected
from tests.support.journal import SHARDS, append_of, until

READ_SIDE = ReadSideId("watch")
A = EntityId("a")
IN_A = shard_of(A, SHARDS)
ME = Owner("me")
QUICK = Backoff(timedelta(milliseconds=100), timedelta(milliseconds=100))
PARK = DeliveryPolicy(0, QUICK, LastResort.PARK)
SECRET = "what Ada said"
_lives = count(1)


@pytest.fixture
def service(postgres_journal: PostgresJournal) -> ErasureMethods:
    methods = ErasureMethods()
    methods._parts = Parts(Entities(postgres_journal), postgres_journal.eraser)  # type: ignore[assignment]
    return methods


@asynccontextmanager
async def running(
    database: Database, handler: RecordingReadHandler, **settings: Any
) -> AsyncIterator[ReadSide]:
    """A process of the read side."""
    journal, opened = PostgresJournal(database), PostgresReadSideStores(database)
    await journal.open()
    await opened.open()
    shards = [Shard(number) for number in range(SHARDS)]
    read_side = ReadSide(
        ReadSideSettings(READ_SIDE, poll=timedelta(milliseconds=50), **settings),
        shards,
        shards,
        Owner(f"life {next(_lives)}"),
        ReleaseId("r"),
        Stores(journal, opened.places, opened.offsets, opened.controls, opened.letters),
        handler,
        SystemClock(),
    )
    run = asyncio.ensure_future(read_side.run())
    try:
        yield read_side
    finally:
        await read_side.stop()
        await run
        await opened.close()
        await journal.close()


def of_a(handler: RecordingReadHandler) -> list[Attempt]:
    return [attempt for attempt in handler.attempts if attempt.entity_id == A]


def secret_append(expected: int, events: int = 1) -> Any:
    return append_of("a", expected, events, command=f"{SECRET} {expected}")


def query(database: Database, text: str, *parameters: object) -> list[Any]:
    with connected(database) as connection:
        cursor = connection.execute(text.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def letters_of(database: Database) -> int:
    return int(query(database, "select count(*) from cos_dead_letters")[0][0])


async def true(condition: bool) -> bool:
    return condition


class TestRunningReadSide:
    async def test_one_that_has_set_the_entity_aside_hears_of_the_last_event(
        self, service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        handler = RecordingReadHandler()
        handler.fail("a", 1)
        await postgres_journal.append(secret_append(0, 3))
        async with running(database, handler, policy=PARK) as read_side:
            await until(lambda: true(letters_of(database) == 3))
            _, context = await erase(service)
            assert context.code is None, context.details
            await until(lambda: true(handler.confirmed("a") == [4]))
            assert says_nothing(of_a(handler)[-1].envelope)
            await until(lambda: true(read_side.status()[IN_A].pending == 0))
        assert letters_of(database) == 0

    @pytest.mark.parametrize(
        "policy", [DeliveryPolicy(waits=QUICK), DeliveryPolicy(2, QUICK, LastResort.PARK)]
    )
    async def test_of_one_that_retries_an_event_nothing_is_set_aside_or_handed_out_that_it_said(
        self,
        service: ErasureMethods,
        postgres_journal: PostgresJournal,
        database: Database,
        policy: DeliveryPolicy,
    ) -> None:
        handler = RecordingReadHandler()
        handler.fail("a", 1)
        await postgres_journal.append(secret_append(0, 3))
        async with running(database, handler, policy=policy):
            await until(lambda: true(bool(of_a(handler))))
            await erase(service)
            since = len(of_a(handler))
            wanted = 1 if policy.last_resort is LastResort.PARK else 4
            await until(lambda: true(len(of_a(handler)) >= since + wanted or letters_of(database) == 4))
            assert all(says_nothing(each.envelope) for each in of_a(handler)[since:])
            assert SECRET.encode().hex() not in everything(database)

    async def test_of_one_in_which_events_wait_for_long_none_is_handed_out_afterwards_that_it_said(
        self, service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        """The window is full, so that the last event cannot be read."""
        handler = RecordingReadHandler()
        gate = handler.hang("a", 1)
        await postgres_journal.append(secret_append(0, 30))
        async with running(database, handler, batch=10, look_ahead=10):
            await until(lambda: true(handler.under_way == 1))
            await erase(service)
            since = len(of_a(handler))
            gate.set()
            await until(lambda: true(handler.confirmed("a") == list(range(1, 32))))
            assert all(says_nothing(each.envelope) for each in of_a(handler)[since:])

    async def test_however_the_two_meet_the_last_event_is_delivered_and_nothing_is_left(
        self, service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        """Many entities, erased at any moment while they are tried, set aside, or waited for."""
        handler = RecordingReadHandler()
        entities = [f"e{number}" for number in range(12)]

        async def picky(attempt: Attempt) -> None:
            await asyncio.sleep(0.003 * (attempt.revision % 3))
            if attempt.revision == 2 and not says_nothing(attempt.envelope):
                raise RuntimeError("no")

        handler._before = picky
        async with running(database, handler, policy=DeliveryPolicy(1, QUICK, LastResort.PARK)):

            async def live_and_be_erased(number: int, entity: str) -> None:
                for expected in range(4):
                    await postgres_journal.append(
                        append_of(entity, expected, command=f"{SECRET} {entity} {expected}")
                    )
                await asyncio.sleep(0.02 * number)
                _, context = await erase(service, entity)
                assert context.code is None, context.details

            await asyncio.gather(*[live_and_be_erased(*each) for each in enumerate(entities)])
            for entity in entities:
                await until(lambda entity=entity: true(handler.confirmed(entity)[-1:] == [5]))  # type: ignore[misc]
        assert letters_of(database) == 0
        assert SECRET.encode().hex() not in everything(database)


def event(revision: int, text: str = SECRET) -> JournaledEvent:
    envelope = append_of("a", revision - 1, command=text).envelopes[0]
    return JournaledEvent(Offset(revision), envelope)


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[PostgresReadSideStores]:
    stores = PostgresReadSideStores(database)
    await stores.open()
    await stores.controls.take(READ_SIDE, [IN_A], ME, LeaseRank(1, True, 1), timedelta(hours=1))
    yield stores
    await stores.close()


def waiting(database: Database) -> int:
    """How many statements wait for a lock."""
    return len(query(database, "select 1 from pg_locks where not granted"))


class TestStatementsHeldUp:
    """An erasure waits for what has begun before it, or that finds it on record."""

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # What is held up gives up after as long.
        monkeypatch.setattr("cos_ray.postgres.erasure.KNOWN_WITHIN", timedelta(0))

    async def test_a_snapshot_that_was_held_up_is_gone_afterwards(
        self, service: ErasureMethods, database: Database
    ) -> None:
        journal = PostgresJournal(database, retention=Retention(frequency=1, keep=2))
        await journal.open()
        with connected(database) as other:
            other.execute("begin")
            # It has looked whether the entity is erased, and waits for the fate of this row.
            other.execute(
                "insert into state_snapshot (persistence_id, sequence_number, created, snapshot_ser_id,"
                " snapshot_ser_manifest, snapshot_payload) values ('a', 1, 1, 5001, 'x', '')"
            )
            await journal.append(secret_append(0))
            await until(lambda: true(waiting(database) == 1))
            erasing = asyncio.ensure_future(erase(service))
            await until(lambda: true(waiting(database) == 2 or erasing.done()))
            other.execute("rollback")
        _, context = await erasing
        await journal.close()
        assert context.code is None, context.details
        assert query(database, "select persistence_id from state_snapshot") == []

    async def test_a_snapshot_of_an_erased_entity_is_not_saved(
        self, service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        append = secret_append(0)
        await postgres_journal.append(append)
        await erase(service)
        journal = PostgresJournal(database, retention=Retention(frequency=1, keep=2))
        await journal.open()
        assert journal._snapshots is not None
        journal._snapshots.note(append)
        # One after it, that is saved.
        await journal.append(append_of("b", 0))
        await until(lambda: true(bool(query(database, "select 1 from state_snapshot"))))
        await journal.close()
        assert query(database, "select persistence_id from state_snapshot") == [("b",)]

    async def test_an_event_that_was_held_up_on_its_way_to_the_dead_letters_is_gone_afterwards(
        self,
        service: ErasureMethods,
        postgres_journal: PostgresJournal,
        database: Database,
        stores: PostgresReadSideStores,
    ) -> None:
        await postgres_journal.append(secret_append(0))
        with connected(database) as other:
            other.execute("begin")
            other.execute("insert into cos_dead_letters values ('watch', 'a', 1, 0, 7, '', 'why', 1, now())")
            parking = asyncio.ensure_future(stores.letters.park(READ_SIDE, IN_A, event(1), "no", 1, ME))
            await until(lambda: true(waiting(database) == 1))
            erasing = asyncio.ensure_future(erase(service))
            await until(lambda: true(waiting(database) == 2 or erasing.done()))
            other.execute("rollback")
        _, context = await erasing
        assert context.code is None, context.details
        await asyncio.gather(parking, return_exceptions=True)
        assert letters_of(database) == 0

    async def test_an_event_of_an_erased_entity_is_set_aside_without_what_it_said_or_not_at_all(
        self,
        service: ErasureMethods,
        postgres_journal: PostgresJournal,
        database: Database,
        stores: PostgresReadSideStores,
    ) -> None:
        await postgres_journal.append(secret_append(0, 2))
        await erase(service)
        with pytest.raises(EntityIsErased):
            await stores.letters.park(READ_SIDE, IN_A, event(1), "no", 1, ME)
        assert letters_of(database) == 0
        await stores.letters.park(READ_SIDE, IN_A, redacted_event(event(3)), "no", 1, ME)
        _, context = await erase(service)
        assert context.code is None
        [letter] = await stores.letters.letters(READ_SIDE, A, 10)
        assert (letter.envelope.sequence_number, says_nothing(letter.envelope)) == (3, True)

    async def test_an_erasure_that_cannot_have_the_lock_fails_and_leaves_nothing_on_record(
        self, service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        await postgres_journal.append(secret_append(0))
        with connected(database) as other, other.transaction():
            other.execute("select cos_lock_entities(array['a'], false)")
            _, context = await erase(service)
            assert context.code is not None
            assert query(database, "select 1 from cos_erased_entities") == []
        _, context = await erase(service)
        assert context.code is None

    async def test_others_wait_for_no_erasure(
        self, postgres_journal: PostgresJournal, database: Database, stores: PostgresReadSideStores
    ) -> None:
        await postgres_journal.append(secret_append(0))
        with connected(database) as other, other.transaction():
            other.execute("select cos_lock_entities(array['b'], true)")
            await stores.letters.park(READ_SIDE, IN_A, event(1), "no", 1, ME)
            another = append_of("b", 0).envelopes[0]
            with pytest.raises(JournalUnavailable):
                await stores.letters.park(READ_SIDE, IN_A, JournaledEvent(Offset(9), another), "no", 1, ME)


class TestAskedAgain:
    async def test_it_removes_again_what_has_come_back(
        self, service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        """As an older release may have brought it back, which asks nobody."""
        await postgres_journal.append(secret_append(0, 2))
        first, _ = await erase(service, reason="first")
        payload = SECRET.encode()
        query(
            database,
            "insert into state_snapshot (persistence_id, sequence_number, created, snapshot_ser_id,"
            " snapshot_ser_manifest, snapshot_payload) values ('a', 2, 1, 5001, 'x', %s)",
            payload,
        )
        query(
            database, "insert into cos_dead_letters values ('r', 'a', 1, 0, 7, %s, 'why', 1, now())", payload
        )
        query(database, "update event_journal set event_payload = %s where sequence_number = 1", payload)
        again, context = await erase(service, reason="second")
        assert context.code is None
        assert again == first
        assert payload.hex() not in everything(database)

    async def test_who_asks_again_later_does_not_wait_again(
        self, service: ErasureMethods, postgres_journal: PostgresJournal, database: Database
    ) -> None:
        await postgres_journal.append(secret_append(0))
        await erase(service)
        query(database, "update cos_erased_entities set asked_at = now() - interval '1 day'")
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cos_ray.postgres.erasure.asyncio.sleep", sleep)
            await erase(service)
        assert all(seconds <= 0 for seconds in slept)
