"""
Makes the database's schema what this version needs: Chief of State's tables, then our own part.

Whoever comes first does it, under a lock; the others find it done, and then need no right to
change a schema. An existing Chief of State database is opened in place. What is not understood
is refused, never changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.database import Database, PlainConnection, one_line, plain_session
from cos_ray.postgres.foreign_writers import wait_for_foreign_writers
from cos_ray.postgres.preconditions import require_sound_journal, require_usage, require_utf8, warn_of_dangers
from cos_ray.postgres.rights import Use, fault_of_rights, lacking_rights
from cos_ray.postgres.statements import Migration, migrations, statement

CHIEF_OF_STATE_VERSION = 6
"""The version of Chief of State's tables that this service works on."""

LOCKS_WITHIN = "10s"
"""How long a step waits for a table: whoever wants to write to that table waits behind it."""

_CHIEF_OF_STATE_TABLES = frozenset(
    {"event_journal", "event_tag", "state_snapshot", "read_side_offsets", "read_sides", "cos_migrations"}
)
_OLDER_TABLES = frozenset({"journal", "snapshot"})
"""Those of Chief of State's first version."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a schema is found to be."""

    exists: bool
    tables: frozenset[str]
    chief_of_state: int | None
    """The version of Chief of State's tables that is recorded there."""
    ours: Mapping[int, str]
    """The checksums of those of our steps that were taken, by number."""

    @property
    def is_bare(self) -> bool:
        """Whether not all of Chief of State's tables are there."""
        return self.chief_of_state is None or not self.tables >= _CHIEF_OF_STATE_TABLES


def migrate(database: Database) -> Sequence[str]:
    """
    Bring the schema up to date; answers with the names of the steps taken, none if it was.

    Returns only when no transaction of others is left that writes to the journal. Safe to call
    from many processes at once. Raises StartFailed with one line when the schema is not one this
    version can work on, or the database does not allow it.
    """
    try:
        with plain_session(database) as connection:
            require_utf8(connection, database)
            # The lock goes with the connection.
            connection.execute("select pg_advisory_lock(%s)", [_lock_key(database.schema)])
            schema = schema_in(connection, database)
            steps = pending_steps(schema, database)
            if steps and "event_journal" in schema.tables:
                # Our steps lock tables: they would hang behind a transaction that never ends.
                wait_for_foreign_writers(connection)
            connection.execute("select set_config('lock_timeout', %s, false)", [LOCKS_WITHIN])
            _take(connection, database, schema)
            _require_all(connection, database)
            wait_for_foreign_writers(connection)
            if _is_true(connection, statement("chief_of_state_wrote")):
                connection.execute(statement("note_chief_of_state"))
            warn_of_dangers(connection, database)
            return steps
    except psycopg.errors.InsufficientPrivilege as error:
        raise StartFailed(
            f"the role {database.user} lacks a right in the schema {database.schema} of {database} "
            f"({one_line(error)}): run `cos-ray journal migrate` as the owner of its tables, "
            f"then deploy/roles.sql"
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise StartFailed(
            f"a table of the schema {database.schema} of {database} is in use by others for more than "
            f"{LOCKS_WITHIN}, by a backup perhaps, so that no step can be taken: try again later"
        ) from error
    except psycopg.Error as error:
        raise StartFailed(
            f"the schema {database.schema} of {database} cannot be set up: {one_line(error)}"
        ) from error


def planned(database: Database) -> Sequence[str]:
    """The steps that `migrate` would take now. Changes nothing and waits for no one. Raises StartFailed."""
    try:
        with plain_session(database, reads_only=True) as connection:
            require_utf8(connection, database)
            schema = schema_in(connection, database)
            steps = pending_steps(schema, database)
            if "event_journal" in schema.tables:
                require_sound_journal(connection, database)
            return steps
    except psycopg.Error as error:
        raise StartFailed(
            f"the schema {database.schema} of {database} cannot be read: {one_line(error)}"
        ) from error


def schema_in(connection: PlainConnection, database: Database) -> Schema:
    """Look at what there is. Raises StartFailed when the role may not."""
    require_usage(connection, database)
    exists = _is_true(
        connection, "select to_regnamespace(%s) is not null", sql.Identifier(database.schema).as_string()
    )
    query = "select tablename from pg_tables where schemaname = %s"
    tables = frozenset(name for (name,) in connection.execute(query, [database.schema]).fetchall())
    version = None
    if "cos_migrations" in tables:
        ((version,),) = connection.execute("select max(version_number) from cos_migrations").fetchall()
    ours: dict[int, str] = {}
    if "cos_ray_migrations" in tables:
        ours = dict(connection.execute("select number, checksum from cos_ray_migrations").fetchall())
    return Schema(exists, tables, version, ours)


def pending_steps(schema: Schema, database: Database) -> list[str]:
    """The names of the steps to take. Raises StartFailed for a schema this version cannot work on."""
    where = f"the schema {database.schema} of {database}"
    _refuse_other_chief_of_state(schema, where)
    _refuse_other_cos_ray(schema, where)
    steps = [] if schema.exists else ["schema"]
    if schema.is_bare:
        steps.append("chief_of_state")
    return steps + [migration.name for migration in _pending(schema)]


def _refuse_other_chief_of_state(schema: Schema, where: str) -> None:
    version = schema.chief_of_state
    if version is None:
        if found := schema.tables & (_OLDER_TABLES | {"event_journal"}):
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


def _refuse_other_cos_ray(schema: Schema, where: str) -> None:
    known = {migration.number: migration for migration in migrations()}
    if unknown := set(schema.ours) - set(known):
        raise StartFailed(
            f"{where} was set up by a newer cos_ray (step {max(unknown)}; this one knows {max(known)}): "
            f"start that version or a later one"
        )
    for number, checksum in schema.ours.items():
        if checksum != _checksum(known[number]):
            raise StartFailed(
                f"{where} was set up by another build of cos_ray: its step {number} "
                f"({known[number].name}) differs"
            )


def _pending(schema: Schema) -> list[Migration]:
    return [migration for migration in migrations() if migration.number not in schema.ours]


def _take(connection: PlainConnection, database: Database, schema: Schema) -> None:
    if not schema.exists:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(database.schema)))
    if schema.is_bare:
        with connection.transaction():
            connection.execute(statement("chief_of_state"))
            if schema.chief_of_state is None:
                _record_chief_of_state_version(connection, dated="cos_migrations" not in schema.tables)
    for migration in _pending(schema):
        with connection.transaction():
            connection.execute(statement("our_migrations"))
            connection.execute(migration.script)
            connection.execute(
                "insert into cos_ray_migrations (number, name, checksum) values (%s, %s, %s)",
                [migration.number, migration.name, _checksum(migration)],
            )


def _require_all(connection: PlainConnection, database: Database) -> None:
    """Raises StartFailed when the tables are not as they are to be, or the role may not use them."""
    lacking = lacking_rights(connection, database, {Use.SERVING})
    forbidden = [row for row in lacking if not row[-1]]
    if fault := fault_of_rights(forbidden, database):
        raise StartFailed(fault)
    # Has more to say than that something is missing.
    require_sound_journal(connection, database)
    if fault := fault_of_rights(lacking, database):
        raise StartFailed(fault)


def _record_chief_of_state_version(connection: PlainConnection, *, dated: bool) -> None:
    # A table that is there already may have another type for it, and needs no date.
    date = sql.SQL("(extract(epoch from clock_timestamp()) * 1000)::bigint" if dated else "null")
    query = sql.SQL(
        "insert into cos_migrations (version_number, upgraded_at, is_snapshot) values (%s, {}, true)"
    )
    connection.execute(query.format(date), [CHIEF_OF_STATE_VERSION])


def _is_true(connection: PlainConnection, query: str, *parameters: object) -> bool:
    row = connection.execute(query.encode(), parameters).fetchone()
    return row is not None and bool(row[0])


def _checksum(migration: Migration) -> str:
    return hashlib.sha256(migration.script.encode()).hexdigest()


def _lock_key(schema: str) -> int:
    digest = hashlib.sha256(f"cos_ray migrations of {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
