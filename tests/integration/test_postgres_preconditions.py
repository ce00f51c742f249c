"""Databases that are not as ours would be: what works all the same, and what is refused, in a line."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from psycopg import sql

from cos_ray.domain.errors import StartFailed
from cos_ray.domain.ids import EntityId, IdempotencyKey
from cos_ray.postgres.database import Database, wait_until_reachable
from cos_ray.postgres.embedded import server
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.inspection import inspect
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate, planned
from cos_ray.postgres.parquet.exporting import Selection, export
from cos_ray.postgres.parquet.importing import import_files
from cos_ray.postgres.shard_count import shards_of_database
from tests.support.chief_of_state import ChiefOfState
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, read_all

FOREIGN = "日本 \N{GRINNING FACE}"

Make = Callable[..., Database]

_numbers = count(1)


@pytest.fixture
def make_database(postgres_server: Database) -> Iterator[Make]:
    """Makes a database, with `create database`'s options and the settings it is to have."""
    made: list[str] = []

    def make(options: str = "", *settings: str) -> Database:
        name = f"premises {os.getpid()} {next(_numbers)}"
        quoted = sql.Identifier(name).as_string()
        made.append(quoted)
        run(postgres_server, f"create database {quoted} {options}")
        for setting in settings:
            run(postgres_server, f"alter database {quoted} set {setting}")
        return replace(postgres_server, name=name)

    yield make
    for quoted in made:
        run(postgres_server, f"drop database {quoted} with (force)")


def run(database: Database, query: str) -> None:
    with connected(database) as connection:
        connection.execute(query.encode())


def note_how_commits_are_made(database: Database) -> None:
    """From now on, each append notes in the table `told` how far its commit waits."""
    with connected(database) as connection:
        connection.execute("create table told (setting text)")
        connection.execute(
            "create function tell() returns trigger language plpgsql as $$ begin"
            " insert into told values (current_setting('synchronous_commit')); return new; end $$"
        )
        connection.execute("create trigger tells after insert on event_journal execute function tell()")


async def stored_and_read(database: Database, entity: str = FOREIGN) -> int:
    """How many events are read back of two that a fresh service appends."""
    journal = PostgresJournal(database)
    await journal.open()
    try:
        for expected in range(2):
            await journal.append(replace(append_of(entity, expected), key=IdempotencyKey(f"{expected}")))
        newest = await journal.newest(EntityId(entity))
        assert newest is not None
        assert newest.meta.entity_id == entity
        return len([event for event in await read_all(journal) if event.envelope.meta.entity_id == entity])
    finally:
        await journal.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_a_database_that_does_not_hold_every_text_is_refused_before_anything_is_made(
    make_database: Make, encoding: str
) -> None:
    database = make_database(f"encoding '{encoding}' locale 'C' template template0")
    said = f"the database {re.escape(str(database))} has the encoding {encoding}, .*UTF8.*COS_DB_NAME$"
    for start in (migrate, planned, lambda database: inspect(database, None, [])):
        with pytest.raises(StartFailed, match=said):
            start(database)
    with connected(database) as connection:
        assert connection.execute("select tablename from pg_tables where schemaname = 'public'").rowcount == 0


@pytest.mark.parametrize("command", ["migrate", "check"])
def test_the_commands_say_so_in_one_line(make_database: Make, command: str) -> None:
    database = make_database("encoding 'LATIN1' locale 'C' template template0")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COS_")}
    environment |= {
        "COS_DB_HOST": database.host,
        "COS_DB_PORT": str(database.port),
        "COS_DB_NAME": database.name,
        "COS_DB_PASSWORD": database.password,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "cos_ray", "journal", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert "has the encoding LATIN1" in line


def test_what_is_in_one_can_be_brought_to_another(
    make_database: Make, empty_database: Database, tmp_path: Path
) -> None:
    old = ChiefOfState(
        replace(make_database("encoding 'LATIN1' locale 'C' template template0"), schema="o"), 16
    )
    old.make_tables()
    old.command("élan", events=2)
    assert export(old.database, Selection(), tmp_path / "all.parquet", lambda rows, share: None) == 2
    assert import_files(empty_database, [tmp_path / "all.parquet"], lambda rows, share: None) == 2
    with connected(empty_database) as connection:
        assert connection.execute("select entity_id from cos_entities").fetchall() == [("élan",)]


@pytest.mark.parametrize(
    "setting",
    [
        "client_encoding = 'LATIN1'",
        "client_encoding = 'SQL_ASCII'",
        "search_path = 'pg_catalog'",
        "standard_conforming_strings = off",
        "bytea_output = 'escape'",
        "timezone = 'Asia/Kathmandu'",
        "DateStyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_isolation = 'repeatable read'",
        "default_transaction_deferrable = on",
        "statement_timeout = '30ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '20ms'",
        "idle_session_timeout = '50ms'",
        "array_nulls = off",
        "quote_all_identifiers = on",
        "client_min_messages = 'debug5'",
        "enable_indexscan = off",
    ],
)
async def test_settings_of_a_database_that_are_not_ours_do_no_harm(make_database: Make, setting: str) -> None:
    database = make_database("", setting)
    await asyncio.to_thread(migrate, database)
    assert await stored_and_read(database) == 2
    assert await asyncio.to_thread(migrate, database) == []
    assert shards_of_database(database, 4) == 4
    report = inspect(database, 4, [])
    assert report.would_start
    assert report.odd_rows == []


async def test_neither_does_the_environment(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=30ms -c default_transaction_isolation=serializable")
    assert migrate(database) == []
    assert await stored_and_read(database) == 2


@pytest.mark.parametrize("whose", ["database", "role"])
async def test_what_is_acknowledged_is_on_disk_where_the_server_would_not_wait_for_it(
    postgres_server: Database, make_database: Make, whose: str
) -> None:
    database = make_database()
    name = database.name if whose == "database" else database.user
    subject = f"{whose} {sql.Identifier(name).as_string()}"
    run(postgres_server, f"alter {subject} set synchronous_commit = off")
    try:
        migrate(database)
        with connected(database) as connection:
            assert connection.execute("show synchronous_commit").fetchall() == [("off",)]
        note_how_commits_are_made(database)
        assert await stored_and_read(database) == 2
        journal = PostgresJournal(database)
        await journal.open()
        await journal.append(append_of("without a key", 0))
        await journal.close()
        with connected(database) as connection:
            assert connection.execute("select setting from told").fetchall() == [("on",)] * 3
    finally:
        run(postgres_server, f"alter {subject} reset synchronous_commit")


async def test_a_stricter_setting_than_ours_is_kept(make_database: Make) -> None:
    database = make_database("", "synchronous_commit = 'remote_apply'")
    migrate(database)
    note_how_commits_are_made(database)
    assert await stored_and_read(database) == 2
    with connected(database) as connection:
        assert connection.execute("select distinct setting from told").fetchall() == [("remote_apply",)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # As after a copy by logical replication, which leaves sequences where they were.
        (
            "select setval('event_journal_ordering_seq', 1)",
            "is at 1, and the newest event .* 2: .*setval",
        ),
        ("alter sequence event_journal_ordering_seq restart", "is at 0, and the newest event has .* 2"),
        (
            "alter sequence event_journal_ordering_seq owned by none",
            "owns no sequence: alter .* owned by",
        ),
        (
            "alter sequence event_journal_ordering_seq cycle",
            "does not rise for ever: alter .* no cycle",
        ),
        ("alter sequence event_journal_ordering_seq cache 5", "in blocks: alter sequence .* cache 1"),
        ("alter table event_tag set unlogged", "event_tag .* is unlogged: alter table event_tag set logged"),
    ],
)
async def test_tables_that_would_lose_events_are_refused(database: Database, change: str, said: str) -> None:
    await stored_and_read(database)
    run(database, change)
    for start in (migrate, planned):
        with pytest.raises(StartFailed, match=said) as caught:
            start(database)
        assert "\n" not in str(caught.value)
    report = inspect(database, 4, [])
    assert not report.would_start
    assert re.search(said, report.reasons[0])


def test_a_server_that_may_lose_what_it_has_committed_is_named_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(server._SETTINGS, "fsync", "off")
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    try:
        database = postgres.start()
        with caplog.at_level(logging.WARNING):
            migrate(database)
        assert "may lose acknowledged events" in caplog.text
    finally:
        postgres.stop()


def test_nothing_is_said_of_one_that_does_not(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        migrate(database)
    assert caplog.text == ""


def test_a_collation_that_has_changed_under_the_indexes_is_named(
    make_database: Make, caplog: pytest.LogCaptureFixture
) -> None:
    database = make_database("locale_provider builtin builtin_locale 'C.UTF-8' template template0")
    migrate(database)
    run(database, "update pg_database set datcollversion = '1.2' where datname = current_database()")
    with caplog.at_level(logging.WARNING):
        migrate(database)
    assert "reindex database" in caplog.text


def test_a_server_that_takes_no_writes_is_said_to_be_one(make_database: Make) -> None:
    database = make_database("", "default_transaction_read_only = on")
    with pytest.raises(StartFailed, match=r"read-only.*a standby, or default_transaction_read_only"):
        wait_until_reachable(database, timedelta(seconds=0.5), lambda reason: None)
    assert inspect(database, None, []).would_start
