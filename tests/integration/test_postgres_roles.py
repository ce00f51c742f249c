"""The runtime role of deploy/roles.sql: what the service does with it, and what it may not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from cos_ray.domain.erasure import ERASED
from cos_ray.domain.errors import JournalUnavailable, StartFailed
from cos_ray.domain.ids import EntityId, Owner, ReadSideId, ReleaseId, Revision
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.retention import Retention
from cos_ray.postgres.database import Database
from cos_ray.postgres.inspection import inspect
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate, planned
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.postgres.rights import Use, require_rights
from cos_ray.postgres.shard_count import shards_of_database
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, read_all, until

ROLES = Path(__file__).parents[2] / "deploy" / "roles.sql"
OWNER, RUNTIME = 'the "owner"', "the runtime"
PASSWORD = "secret"


@pytest.fixture
def owner(empty_database: Database) -> Iterator[Database]:
    """A schema that roles.sql has made, with its two roles, in a database whose tables all may lack."""
    run_roles(empty_database)
    with connected(empty_database) as connection:
        for role in (OWNER, RUNTIME):
            query = sql.SQL("alter role {} password {}").format(sql.Identifier(role), PASSWORD)
            connection.execute(query)
    yield replace(empty_database, user=OWNER, password=PASSWORD)
    with connected(empty_database) as connection:
        for role in (OWNER, RUNTIME):
            connection.execute(sql.SQL("drop owned by {} cascade").format(sql.Identifier(role)))
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@pytest.fixture
def runtime(owner: Database, empty_database: Database) -> Database:
    """As the service connects: the owner has migrated, the rights are granted."""
    migrate(owner)
    run_roles(empty_database)
    return replace(owner, user=RUNTIME)


def run_roles(database: Database) -> None:
    """The file as it stands, with other names."""
    script = ROLES.read_text(encoding="utf-8")
    for ours, theirs in (("'public'", database.schema), ("'cos_owner'", OWNER), ("'cos_runtime'", RUNTIME)):
        assert script.count(ours) == 1
        script = script.replace(ours, sql.Literal(theirs).as_string())
    with connected(database) as connection:
        connection.execute(script.encode())


async def test_the_service_starts_with_it_on_a_schema_that_is_up_to_date(runtime: Database) -> None:
    assert planned(runtime) == []
    assert migrate(runtime) == []
    require_rights(runtime, frozenset(Use))
    assert shards_of_database(runtime, None) == 16


def test_on_one_that_is_not_it_says_who_has_to_do_what(owner: Database, empty_database: Database) -> None:
    runtime = replace(owner, user=RUNTIME)
    with pytest.raises(StartFailed, match=r"permission denied.*run `cos-ray journal migrate` as the owner"):
        migrate(runtime)
    migrate(owner)
    with pytest.raises(StartFailed, match=r"deploy/roles\.sql"):
        migrate(runtime)


async def test_it_appends_reads_keeps_offsets_and_saves_snapshots(runtime: Database) -> None:
    read_side = ReadSideId("r")
    retention = Retention(10, 2, deletes_events=True, read_sides=(read_side,), delete_after=timedelta(0))
    journal, stores = PostgresJournal(runtime, retention=retention), PostgresReadSideStores(runtime)
    offsets = stores.offsets
    await journal.open()
    await stores.open()
    for expected in range(30):
        append = append_of("a", expected)
        offset = await journal.append(append)
    assert await journal.append(append) == offset
    assert await journal.newest(EntityId("a")) == append.envelopes[-1]
    assert await journal.stored_by(EntityId("a"), append.command_id) == append.envelopes[-1]
    assert len(await read_all(journal)) == 30
    owner = Owner("me")
    await stores.controls.introduce(read_side, [append.shard], False)
    standing, hour = await stores.controls.enlist(ReleaseId("r")), timedelta(hours=1)
    assert await stores.controls.take(read_side, [append.shard], owner, standing, hour) == {append.shard}
    await stores.controls.ask(read_side, [append.shard], Owner("you"), standing, hour)
    assert await stores.controls.keep(read_side, owner, hour) == {append.shard: False}
    assert not await offsets.save(read_side, {append.shard: offset}, owner)
    await stores.letters.park(
        read_side, append.shard, JournaledEvent(offset, append.envelopes[-1]), "", 1, owner
    )
    assert await stores.letters.drop(read_side, append.shard, EntityId("a"), None, owner, confirmed=True) == 1
    assert (await stores.places.before([append.shard], datetime.now(timezone.utc)))[append.shard] > 0
    assert await offsets.load(read_side) == {append.shard: offset}
    for expected in range(30, 40):
        await journal.append(append_of("a", expected))

    async def is_deleted() -> bool:
        return len(await read_all(journal)) == 20

    # It may not delete from the journal, but may ask for what the snapshots have made dispensable.
    await until(is_deleted)
    await journal.close()
    await stores.close()
    with connected(runtime) as connection:
        rows = connection.execute("select sequence_number from state_snapshot order by 1").fetchall()
    assert rows == [(30,), (40,)]


def test_it_manages_read_sides_and_looks_the_journal_over(runtime: Database) -> None:
    with connected(runtime) as connection:
        connection.execute("insert into read_sides values ('r', '0', true, 1)")
        connection.execute("update read_sides set paused = false")
        connection.execute("delete from read_sides")
        connection.execute("delete from read_side_offsets")
    assert inspect(runtime, None, [], full=True).would_start


@pytest.mark.parametrize(
    "forbidden",
    [
        "update event_journal set writer = 'x'",
        "delete from event_journal",
        "truncate event_journal cascade",
        "update event_tag set tag = 'x'",
        "delete from event_tag",
        "select setval('event_journal_ordering_seq', 1)",
        "update cos_migrations set version_number = 7",
        "insert into cos_ray_migrations values (99, 'x', 'x')",
        "create table t ()",
        "drop table event_tag",
        "drop function cos_delete_events",
        "alter table event_journal disable trigger all",
    ],
)
def test_it_changes_neither_history_nor_schema(runtime: Database, forbidden: str) -> None:
    with connected(runtime) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(forbidden.encode())


def test_what_it_deletes_by_the_function_obeys_the_function_s_rules(runtime: Database) -> None:
    with connected(runtime) as connection:
        connection.execute(
            "insert into state_snapshot values ('a', 1000, 1, 5001, 'm', '', null, null, null)"
        )
        insert = (
            "insert into event_journal (persistence_id, sequence_number, writer, event_ser_id,"
            " event_ser_manifest, event_payload) values ('a', %s, 'w', 5001, 'm', '')"
        )
        for number in (1, 2, 3):
            connection.execute(insert, [number])
        connection.execute("select cos_delete_events(array['a'], array[1000], array[]::text[], 100)")
        assert connection.execute("select sequence_number from event_journal").fetchall() == [(3,)]


async def test_it_erases_what_has_come_to_its_end_and_nothing_else(runtime: Database) -> None:
    journal = PostgresJournal(runtime)
    await journal.open()
    append = append_of("a", 0, events=2)
    await journal.append(append)
    with pytest.raises(JournalUnavailable, match="not come to its last event"):
        await journal.eraser.remove(EntityId("a"), "", None)
    assert await journal.history(EntityId("a"), Revision(1), 9) == list(append.envelopes)
    last = append_of("a", 2)
    erased = replace(last.envelopes[0], event=ERASED, resulting_state=ERASED)
    await journal.append(replace(last, envelopes=(erased,)))
    with connected(runtime) as connection:
        query = "select cos_redact('a', '{1}', array['other bytes'::bytea])"
        assert connection.execute(query).fetchall() == [(0,)]
    assert (await journal.eraser.remove(EntityId("a"), "", None)).events == 3
    states = {envelope.resulting_state for envelope in await journal.history(EntityId("a"), Revision(1), 9)}
    assert states == {ERASED}
    await journal.close()


def test_others_may_not_ask_for_deletions(runtime: Database, empty_database: Database) -> None:
    with connected(empty_database) as connection:
        with suppress(psycopg.errors.DuplicateObject):
            connection.execute("create role stranger")
        schema = sql.Identifier(runtime.schema)
        connection.execute(sql.SQL("grant usage on schema {} to stranger").format(schema))
        connection.execute("set role stranger")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select cos_delete_events(array['a'], array[1], array[]::text[], 1)")
        connection.execute("reset role")
        connection.execute("drop owned by stranger")
        connection.execute("drop role stranger")


def test_the_file_may_be_run_again(runtime: Database, empty_database: Database) -> None:
    run_roles(empty_database)
    run_roles(empty_database)
    assert migrate(runtime) == []
