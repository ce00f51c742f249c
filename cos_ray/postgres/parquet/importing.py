"""
Fills an empty journal from files that were exported: all of them, or nothing.

Sequence numbers, payloads and offsets are the exported ones, so that histories, and the order in
each shard, are the same; new events come after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import psycopg

from cos_ray.domain.ids import fault_of_entity_id
from cos_ray.postgres.database import Database, one_line, set_up_plain_session
from cos_ray.postgres.migrations import migrate
from cos_ray.postgres.parquet.archive import ArchiveFault, Batch, batches_of, rows_of
from cos_ray.postgres.statements import statement

Told: TypeAlias = Callable[[int, float], None]
"""Hears how many rows are done, and which share of the whole that is, from 0 to 1."""

_COLUMNS = (
    ("offset", "int8"),
    ("entity", "varchar"),
    ("sequence_number", "int8"),
    ("payload", "bytea"),
    ("deleted", "bool"),
    ("writer", "varchar"),
    ("write_timestamp", "int8"),
    ("adapter_manifest", "varchar"),
    ("event_ser_id", "int4"),
    ("event_ser_manifest", "varchar"),
    ("meta_ser_id", "int4"),
    ("meta_ser_manifest", "varchar"),
    ("meta_payload", "bytea"),
)
"""As `import_events.sql` has them, and of which type they are there."""


def import_files(database: Database, paths: Sequence[Path], on_progress: Told) -> int:
    """
    Store the files' events in an empty journal, whose tables are made if need be; how many there were.

    For the owner of the schema. Raises ArchiveFault, and stores nothing, when the journal is not
    empty, or a file is not as it should be; StartFailed when the tables cannot be made.
    """
    total = sum(map(rows_of, paths))
    migrate(database)
    try:
        with psycopg.connect(**database.connect_arguments()) as connection:
            set_up_plain_session(connection, database)
            connection.execute("set lock_timeout = '10s'")
            with connection.transaction():
                # Whoever wants to append meanwhile has to wait; whoever reads finds nothing.
                connection.execute("lock table event_journal in exclusive mode")
                _refuse_what_is_not_empty(connection, database)
                rows = 0
                for path in paths:
                    for batch in batches_of(path):
                        _store(connection, path, batch)
                        rows += batch.rows
                        on_progress(rows, rows / total)
                if rows:
                    connection.execute(statement("import_end"))
                    connection.execute(statement("import_entities"))
            connection.execute("analyze event_journal, event_tag")
    except psycopg.Error as error:
        raise ArchiveFault(f"the journal of {database} cannot be filled: {one_line(error)}") from error
    return rows


def _refuse_what_is_not_empty(connection: psycopg.Connection[Any], database: Database) -> None:
    found = [name for (name,) in connection.execute(statement("import_leftovers")).fetchall()]
    if found:
        raise ArchiveFault(
            f"the journal of {database} is not empty ({', '.join(found)}): import into an empty schema"
        )


def _store(connection: psycopg.Connection[Any], path: Path, batch: Batch) -> None:
    columns = batch.columns
    _refuse_impossible_rows(path, batch)
    try:
        with connection.cursor() as cursor:
            with cursor.copy(statement("import_events")) as copy:
                copy.set_types([type_ for _, type_ in _COLUMNS])
                for row in zip(*(columns[name] for name, _ in _COLUMNS), strict=True):
                    copy.write_row(row)
            with cursor.copy(statement("import_tags")) as copy:
                copy.set_types(["int8", "varchar"])
                for offset, tags in zip(columns["offset"], columns["tags"], strict=True):
                    for tag in tags:
                        copy.write_row((offset, tag))
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        last = batch.first_row + batch.rows - 1
        raise ArchiveFault(f"{path}, rows {batch.first_row} to {last}: {one_line(error)}") from error


def _refuse_impossible_rows(path: Path, batch: Batch) -> None:
    columns = batch.columns
    for place, (entity, sequence_number, offset) in enumerate(
        zip(columns["entity"], columns["sequence_number"], columns["offset"], strict=True)
    ):
        fault = fault_of_entity_id(entity)
        if fault is None and sequence_number < 1:
            fault = f"{sequence_number} is no sequence number"
        if fault is None and offset < 1:
            fault = f"{offset} is no offset"
        if fault is not None:
            raise ArchiveFault(f"{path}, row {batch.first_row + place}: {fault}")
