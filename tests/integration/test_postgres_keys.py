"""Idempotency keys in Postgres: how they go, and what they do not disturb."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from cos_ray.domain.errors import KeyKnown
from cos_ray.domain.ids import EntityId, IdempotencyKey
from cos_ray.domain.messages import Append
from cos_ray.postgres.connections import Connections
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.key_expiry import KeyExpiry
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, until
from tests.support.tcp_proxy import Cut, TcpProxy

A = EntityId("a")


def keyed(key: str, entity: str, expected: int, events: int = 1) -> Append:
    append = replace(append_of(entity, expected, max(1, events)), key=IdempotencyKey(key))
    return append if events else replace(append, envelopes=())


@pytest.fixture
async def connections(database: Database) -> AsyncIterator[Connections]:
    connections = Connections(database, at_least=1, at_most=2, session={})
    await connections.open()
    yield connections
    await connections.close()


def keys_in(database: Database) -> set[str]:
    with connected(database) as session:
        return {key for (key,) in session.execute("select key from cos_idempotency_keys").fetchall()}


def plant_expired(database: Database, count: int) -> None:
    with connected(database) as session:
        session.execute(
            "insert into cos_idempotency_keys select 'old', 'k' || n, 0, now() - make_interval(secs => n)"
            " from generate_series(1, %s) n",
            [count],
        )


async def test_a_key_is_kept_for_its_time(database: Database) -> None:
    journal = PostgresJournal(database, key_ttl=timedelta(hours=7))
    await journal.open()
    await journal.append(keyed("k", "a", 0))
    await journal.close()
    with connected(database) as session:
        query = "select extract(epoch from expires_at - clock_timestamp())::float from cos_idempotency_keys"
        ((left,),) = session.execute(query).fetchall()
    assert 7 * 3600 - 60 < left <= 7 * 3600


async def test_expired_keys_are_deleted_some_at_a_time_the_oldest_first(
    database: Database, postgres_journal: PostgresJournal, connections: Connections
) -> None:
    await postgres_journal.append(keyed("alive", "a", 0))
    plant_expired(database, 25)
    expiry = KeyExpiry(connections, batch=10)
    assert await expiry.delete_some() == 10
    assert keys_in(database) == {"alive", *(f"k{n}" for n in range(1, 16))}
    assert [await expiry.delete_some() for _ in range(3)] == [10, 5, 0]
    assert keys_in(database) == {"alive"}


async def test_an_append_that_renews_a_key_and_its_deletion_do_not_wait_for_each_other(
    database: Database, connections: Connections
) -> None:
    plant_expired(database, 3)
    with connected(database) as session, session.transaction():
        session.execute("select 1 from cos_idempotency_keys where key = 'k2' for update")
        assert await asyncio.wait_for(KeyExpiry(connections).delete_some(), 5) == 2
    assert keys_in(database) == {"k2"}


async def test_the_background_task_deletes_what_expires_and_outlives_the_database(database: Database) -> None:
    connections = Connections(database, at_least=1, at_most=1, session={})
    expiry = KeyExpiry(connections, batch=2, every=timedelta(seconds=0.01))
    expiry.start()
    # Not open yet: every look fails, and the next one comes.
    await asyncio.sleep(0.05)
    plant_expired(database, 7)
    await connections.open()

    async def all_gone() -> bool:
        return not keys_in(database)

    await until(all_gone)
    await expiry.stop()
    await connections.close()


@pytest.mark.parametrize("events", [0, 2])
@pytest.mark.parametrize("cut", list(Cut))
async def test_an_append_with_a_key_whose_connection_breaks_is_there_once_and_remembered(
    database: Database, cut: Cut, events: int
) -> None:
    async with TcpProxy(database.port) as proxy:
        journal = PostgresJournal(replace(database, port=proxy.port), settle_within=timedelta(seconds=5))
        await journal.open()
        await asyncio.gather(*[journal.append(keyed("k", f"first-{n}", 0)) for n in range(10)])
        proxy.cuts.append(cut)
        append = keyed("mine", "a", 0, events)
        # Known, if it was stored before the connection broke: `remembered` has the answer then.
        with suppress(KeyKnown):
            await journal.append(append)
        assert proxy.calls_cut == 1
        remembered = await journal.remembered(A, IdempotencyKey("mine"))
        assert remembered is not None
        assert remembered.sequence_number == events
        assert remembered.envelope == (append.envelopes[-1] if events else None)
        await journal.close()


async def test_a_batch_without_keys_is_the_statement_it_always_was(database: Database) -> None:
    journal = PostgresJournal(database)
    await journal.open()
    for number in range(7):
        await journal.append(append_of("a", number))
    asked = "select count(*) from pg_prepared_statements where statement like %s"
    rows = [
        await writer._line._connection.execute(asked, [f"%{name}(%"])  # type: ignore[union-attr]
        for writer in journal._writers
        if writer._line._connection is not None
        for name in ("cos_append", "cos_append_with_keys")
    ]
    counts = [(await cursor.fetchone())[0] for cursor in rows]  # type: ignore[index]
    assert (sum(counts[::2]) > 0, sum(counts[1::2])) == (True, 0)
    await journal.close()


async def test_events_that_a_remembered_key_led_to_are_not_deleted(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    for number in range(6):
        await postgres_journal.append(append_of("a", number))
    await postgres_journal.append(keyed("before all", "b", 0, events=0))
    await postgres_journal.append(keyed("k", "a", 6))
    for number in range(7, 12):
        await postgres_journal.append(append_of("a", number))
    with connected(database) as session:
        session.execute(
            "insert into state_snapshot values ('a', 11, 0, 5001, 'chief_of_state.v1.StateWrapper', '')"
        )
        delete = "select cos_delete_events(array['a'], array[10::bigint], array[]::text[], 1000)"
        assert session.execute(delete).fetchone() == (6,)
        remembered = await postgres_journal.remembered(A, IdempotencyKey("k"))
        assert remembered is not None
        assert remembered.envelope is not None
        session.execute("update cos_idempotency_keys set expires_at = now() - interval '1 s'")
        assert session.execute(delete).fetchone() == (4,)
