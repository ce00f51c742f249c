"""One embedded PostgreSQL for all tests that want one; a schema of its own for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Database]:
    """A server for the whole run."""
    folder = Path(tempfile.mkdtemp(prefix="cos-ray-tests-"))
    server = EmbeddedPostgres(folder / "postgres")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def empty_database(postgres_server: Database) -> Iterator[Database]:
    """A schema's name that nothing has been made in; gone after the test."""
    # A name that has to be quoted.
    database = replace(postgres_server, schema=f'Test "{os.getpid()}" {next(_numbers)}')
    yield database
    with psycopg.connect(**database.connect_arguments()) as connection:
        connection.execute(
            sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(database.schema))
        )


@pytest.fixture
def database(empty_database: Database) -> Database:
    """A database with every table in place and nothing in them."""
    migrate(empty_database)
    return empty_database


@pytest.fixture
def other_database(database: Database) -> Iterator[Database]:
    """A schema that nothing has been made in."""
    other = replace(database, schema=database.schema + " other")
    yield other
    with connected(database) as connection:
        drop = sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(other.schema))
        connection.execute(drop)


@pytest.fixture
async def postgres_journal(database: Database) -> AsyncIterator[PostgresJournal]:
    """An open journal on `database`."""
    journal = PostgresJournal(database)
    await journal.open()
    yield journal
    await journal.close()


def connected(database: Database) -> psycopg.Connection[tuple[object, ...]]:
    """A plain connection of the test's own, which finds the schema's tables."""
    connection = psycopg.connect(**database.connect_arguments())
    connection.execute("select set_config('search_path', %s, false)", [database.search_path])
    return connection
