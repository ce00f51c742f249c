"""
Makes the database's schema what this version needs: Chief of State's tables, then our own part.

Whoever comes first does it, under a lock; the others find it done. An existing Chief of State
database is opened in place. What is not understood is refused, never changed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.database import Database, one_line
from cos_ray.postgres.statements import Migration, migrations, statement

_Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

CHIEF_OF_STATE_VERSION = 6
"""The version of Chief of State's tables that this service works on."""

_CHIEF_OF_STATE_TABLES = frozenset(
    {"event_journal", "event_tag", "state_snapshot", "read_side_offsets", "read_sides", "cos_migrations"}
)
_OLDER_TABLES = frozenset({"journal", "snapshot"})
"""Those of Chief of State's first version."""

_FOREIGN_WRITERS_WITHIN = timedelta(seconds=60)


def migrate(database: Database) -> Sequence[str]:
    """
    Bring the schema up to date; answers with the names of the steps taken, none if it was.

    Safe to call from many processes at once. Raises StartFailed with one line when the schema is
    not one this version can work on, or the database does not allow it.
    """
    try:
        with psycopg.connect(**database.connect_arguments()) as connection:
            connection.execute("select set_config('search_path', %s, false)", [database.search_path])
            connection.execute("select pg_advisory_lock(%s)", [_lock_key(database.schema)])
            # The lock goes with the connection.
            steps = _migrate(connection, database)
            _require_dense_sequence(connection)
            _wait_for_foreign_writers(connection)
            return steps
    except psycopg.Error as error:
        raise StartFailed(
            f"the schema {database.schema} of {database} cannot be set up: {one_line(error)}"
        ) from error


def _migrate(connection: _Connection, database: Database) -> list[str]:
    steps = []
    quoted = sql.Identifier(database.schema).as_string()
    if not _is_true(connection, "select to_regnamespace(%s) is not null", quoted):
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(database.schema)))
        steps.append("schema")
    tables = _tables(connection)
    version = _chief_of_state_version(connection) if "cos_migrations" in tables else None
    _refuse_other_versions(database, tables, version)
    if version is None or not tables >= _CHIEF_OF_STATE_TABLES:
        with connection.transaction():
            connection.execute(statement("chief_of_state"))
            if version is None:
                _record_chief_of_state_version(connection, dated="cos_migrations" not in tables)
        steps.append("chief_of_state")
    return steps + _apply_ours(connection, database, "cos_ray_migrations" in tables)


def _refuse_other_versions(database: Database, tables: frozenset[str], version: int | None) -> None:
    where = f"the schema {database.schema} of {database}"
    if version is None:
        if found := tables & (_OLDER_TABLES | {"event_journal"}):
            raise StartFailed(
                f"{where} holds the table {min(found)} but no version in cos_migrations: start Chief of "
                f"State once to bring it to version {CHIEF_OF_STATE_VERSION}, or choose an empty schema"
            )
    elif version < CHIEF_OF_STATE_VERSION:
        raise StartFailed(
            f"{where} is at Chief of State's version {version}: start a Chief of State that brings it to "
            f"version {CHIEF_OF_STATE_VERSION} first"
        )
    elif version > CHIEF_OF_STATE_VERSION:
        raise StartFailed(
            f"{where} is at Chief of State's version {version}, newer than {CHIEF_OF_STATE_VERSION}, which "
            f"this cos_ray knows: a newer cos_ray is needed"
        )


def _apply_ours(connection: _Connection, database: Database, recorded: bool) -> list[str]:
    known = migrations()
    applied: dict[int, str] = {}
    if recorded:
        applied = dict(connection.execute("select number, checksum from cos_ray_migrations").fetchall())
    where = f"the schema {database.schema} of {database}"
    if applied and (newest := max(applied)) > len(known):
        raise StartFailed(
            f"{where} was set up by a newer cos_ray (step {newest}; this one knows {len(known)}): "
            f"start that version or a later one"
        )
    steps = []
    for migration in known:
        checksum = _checksum(migration)
        if migration.number not in applied:
            _apply(connection, migration, checksum)
            steps.append(migration.name)
        elif applied[migration.number] != checksum:
            raise StartFailed(
                f"{where} was set up by another build of cos_ray: its step {migration.number} "
                f"({migration.name}) differs"
            )
    return steps


def _apply(connection: _Connection, migration: Migration, checksum: str) -> None:
    with connection.transaction():
        connection.execute(statement("our_migrations"))
        connection.execute(migration.script)
        connection.execute(
            "insert into cos_ray_migrations (number, name, checksum) values (%s, %s, %s)",
            [migration.number, migration.name, checksum],
        )


def _tables(connection: _Connection) -> frozenset[str]:
    query = "select tablename from pg_tables where schemaname = current_schema()"
    return frozenset(name for (name,) in connection.execute(query).fetchall())


def _chief_of_state_version(connection: _Connection) -> int | None:
    row = connection.execute("select max(version_number) from cos_migrations").fetchone()
    return row[0] if row is not None else None


def _record_chief_of_state_version(connection: _Connection, *, dated: bool) -> None:
    # A table that Chief of State made keeps its date in a type of its own choosing, and needs none.
    date = sql.SQL("now()" if dated else "null")
    query = sql.SQL(
        "insert into cos_migrations (version_number, upgraded_at, is_snapshot) values (%s, {}, true)"
    )
    connection.execute(query.format(date), [CHIEF_OF_STATE_VERSION])


def _require_dense_sequence(connection: _Connection) -> None:
    # With a cache, each session takes offsets in blocks, and readers would skip the late blocks.
    if not _is_true(connection, statement("hands_out_single_offsets")):
        raise StartFailed(
            "the sequence of event_journal.ordering hands out numbers in blocks: alter sequence ... cache 1"
        )


def _wait_for_foreign_writers(connection: _Connection) -> None:
    """
    Wait until the transactions that write to the journal now are over.

    A Chief of State that is just going away may not yet have committed an event, whose offset is
    lower than those that readers are about to see.
    """
    deadline = time.monotonic() + _FOREIGN_WRITERS_WITHIN.total_seconds()
    waited_for = _writers(connection)
    while still := waited_for & _writers(connection):
        if time.monotonic() > deadline:
            pid = min(pid for _, pid in still)
            raise StartFailed(
                f"the database's process {pid} keeps a transaction open that writes to event_journal"
            )
        time.sleep(0.01)


def _writers(connection: _Connection) -> frozenset[tuple[str, int]]:
    rows = connection.execute(statement("writers")).fetchall()
    return frozenset((transaction, pid) for transaction, pid in rows)


def _is_true(connection: _Connection, query: str, *parameters: object) -> bool:
    row = connection.execute(query.encode(), parameters).fetchone()
    return row is not None and bool(row[0])


def _checksum(migration: Migration) -> str:
    return hashlib.sha256(migration.script.encode()).hexdigest()


def _lock_key(schema: str) -> int:
    digest = hashlib.sha256(f"cos_ray migrations of {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
