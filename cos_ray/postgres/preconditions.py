"""
What a database must be like before events are trusted to it.

What would lose events, or mix them up, is refused with a line that says what to do. What may be
meant so, and is a danger all the same, is logged at each start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from psycopg import sql

from cos_ray.domain.errors import StartFailed
from cos_ray.postgres.database import Database, PlainConnection
from cos_ray.postgres.statements import statement

logger = logging.getLogger(__name__)

_TRUTH = ("event_journal", "event_tag", "cos_entities", "cos_idempotency_keys", "cos_erased_entities")
"""The tables that must outlive a crash of the server."""


def require_utf8(connection: PlainConnection, database: Database) -> None:
    """Raises StartFailed when the database cannot hold every text there is."""
    [(encoding,)] = connection.execute("show server_encoding").fetchall()
    if encoding != "UTF8":
        raise StartFailed(
            f"the database {database} has the encoding {encoding}, and ids and texts of any kind need UTF8: "
            f"make another one (create database ... encoding 'UTF8' template template0), bring the journal "
            f"there (`cos-ray journal export` and `import`), and name it in COS_DB_NAME"
        )


def require_usage(connection: PlainConnection, database: Database) -> None:
    """Raises StartFailed when the schema is there and the role may not look into it."""
    query = "select has_schema_privilege(to_regnamespace(%s), 'usage')"
    [(may,)] = connection.execute(query, [sql.Identifier(database.schema).as_string()]).fetchall()
    if may is False:
        schema, role = (sql.Identifier(name).as_string() for name in (database.schema, database.user))
        raise StartFailed(
            f"the role {database.user} lacks the right usage on the schema {database.schema} of {database}: "
            f"grant usage on schema {schema} to {role}, or run deploy/roles.sql"
        )


def require_sound_journal(connection: PlainConnection, database: Database) -> None:
    """Raises StartFailed when the journal's tables are there and would lose events, or mix them up."""
    for fault in faults_of_journal(connection, database):
        raise StartFailed(fault)


def faults_of_journal(connection: PlainConnection, database: Database) -> Sequence[str]:
    """What of the journal's tables, which are there, keeps a service from starting."""
    looks: Sequence[Callable[[PlainConnection, Database], str | None]] = (_of_offsets, _of_persistence)
    return [fault for look in looks if (fault := look(connection, database)) is not None]


def warn_of_dangers(connection: PlainConnection, database: Database) -> None:
    """Log what may lose events or hide entities, and is the operator's to decide."""
    [(is_careless,)] = connection.execute(statement("dangers")).fetchall()
    if is_careless:
        logger.warning(
            "the database server may lose acknowledged events when its machine crashes: "
            "fsync or full_page_writes is off",
            extra={"database": str(database)},
        )
    if connection.info.server_version >= 150_000:
        for made, now in connection.execute(statement("collation_versions")).fetchall():
            logger.warning(
                "the database's texts were sorted by another version of its collation: until its indexes are "
                "made anew (reindex database, then alter database ... refresh collation version), entities "
                "may not be found",
                extra={"database": str(database), "made_with": made, "version": now},
            )


def _of_offsets(connection: PlainConnection, database: Database) -> str | None:
    """What is wrong with the sequence that hands offsets out: they must rise, and one by one."""
    found = connection.execute(statement("journal_sequence")).fetchone()
    if found is None:
        return (
            f"event_journal.ordering of the schema {database.schema} of {database} owns no sequence: "
            f"alter sequence event_journal_ordering_seq owned by event_journal.ordering"
        )
    cache, step, starts_anew, last, newest, name = found
    if cache != 1:
        # Each session would take offsets in blocks, and readers would skip the late blocks.
        return (
            "the sequence of event_journal.ordering hands out numbers in blocks: alter sequence ... cache 1"
        )
    if step < 1 or starts_anew:
        return f"the sequence {name} does not rise for ever: alter sequence {name} increment by 1 no cycle"
    if last is not None and last < newest:
        # Copied without its sequence. What gets a lower offset is skipped by all who read by offset.
        return (
            f"the sequence {name} is at {last}, and the newest event has the offset {newest}: a copy of a "
            f"database brings its sequences along in a step of its own; select setval('{name}', {newest})"
        )
    return None


def _of_persistence(connection: PlainConnection, database: Database) -> str | None:
    parameters = {"schema": sql.Identifier(database.schema).as_string(), "tables": list(_TRUTH)}
    fleeting = [name for (name,) in connection.execute(statement("fleeting_tables"), parameters).fetchall()]
    if not fleeting:
        return None
    return (
        f"the server empties unlogged tables when it crashes, and {', '.join(fleeting)} of the schema "
        f"{database.schema} of {database} is unlogged: alter table {fleeting[0]} set logged"
    )
