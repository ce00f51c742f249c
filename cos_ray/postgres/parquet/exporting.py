"""
Writes a journal, or a part of it, to a file, as it was at one moment.

A running service is not held up, and what it stores meanwhile is not in the file. Only some
thousands of rows are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from google.protobuf.message import DecodeError

from cos_ray.domain.ids import EntityId, Shard
from cos_ray.postgres.database import Database, one_line, set_up_plain_session
from cos_ray.postgres.parquet.archive import ArchiveFault, ArchiveWriter
from cos_ray.postgres.statements import statement
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import EventWrapper

Row: TypeAlias = tuple[Any, ...]
Told: TypeAlias = Callable[[int, float], None]
"""Hears how many rows are done, and which share of the whole that is, from 0 to 1."""

_MANIFEST = "chief_of_state.v1.EventWrapper"
_GROUP_ROWS = 20_000
_GROUP_OCTETS = 16 * 1024 * 1024
_PAGE_OCTETS = 4 * 1024 * 1024
_PAGE_ROWS = 2_000

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events; those to which everything that is given applies."""

    entity_id: EntityId | None = None
    shard: Shard | None = None
    since: datetime | None = None
    """Written then or later (aware)."""
    until: datetime | None = None
    """Written earlier than that (aware)."""

    def parameters(self) -> dict[str, object]:
        """As `export.sql` takes them."""
        return {
            "entity": self.entity_id,
            "tag": None if self.shard is None else str(self.shard),
            "since": None if self.since is None else (self.since - _EPOCH) // _MILLISECOND,
            "until": None if self.until is None else (self.until - _EPOCH) // _MILLISECOND,
        }


def export(database: Database, selection: Selection, path: Path, on_progress: Told) -> int:
    """
    Write the events to a new file; how many there were.

    Raises ArchiveFault when the file exists or cannot be written, or the journal cannot be read.
    """
    rows = 0
    with ArchiveWriter(path).open() as archive:
        try:
            for group, share in _groups(database, selection):
                archive.write(_columns(group))
                rows += len(group)
                on_progress(rows, share)
        except psycopg.Error as error:
            raise ArchiveFault(f"the journal of {database} cannot be read: {one_line(error)}") from error
    on_progress(rows, 1.0)
    return rows


def _groups(database: Database, selection: Selection) -> Iterator[tuple[list[Row], float]]:
    # A standby will do, and is welcome.
    arguments = {**database.connect_arguments(), "target_session_attrs": "any"}
    with psycopg.connect(**arguments) as connection:
        set_up_plain_session(connection, database)
        # The journal's order comes from its index, and is not made by sorting it all; the events
        # of one entity are few, and better sorted.
        connection.execute(f"set enable_sort = {'off' if selection.entity_id is None else 'on'}".encode())
        connection.execute("set cursor_tuple_fraction = 1.0")
        connection.execute("begin isolation level repeatable read read only")
        [first, last] = connection.execute(statement("export_bounds")).fetchone() or (0, 0)
        group: list[Row] = []
        octets = 0
        for page in _pages(connection, selection):
            group += page
            octets += sum(len(row[3]) for row in page)
            if len(group) >= _GROUP_ROWS or octets >= _GROUP_OCTETS:
                yield group, (group[-1][0] - first) / max(1, last - first)
                group, octets = [], 0
        if group:
            yield group, 1.0


def _pages(connection: psycopg.Connection[Row], selection: Selection) -> Iterator[Sequence[Row]]:
    """Pages of so many rows or so many bytes; one row, however large."""
    with connection.cursor("export", binary=True) as places:
        places.itersize = _PAGE_ROWS
        places.execute(statement("export"), selection.parameters())
        page: list[int] = []
        octets = 0
        for ordering, size in places:
            if page and (len(page) == _PAGE_ROWS or octets + size > _PAGE_OCTETS):
                yield _rows(connection, page)
                page, octets = [], 0
            page.append(ordering)
            octets += size
        if page:
            yield _rows(connection, page)


def _rows(connection: psycopg.Connection[Row], orderings: Sequence[int]) -> Sequence[Row]:
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(statement("export_rows"), {"orderings": list(orderings)}).fetchall()


def _columns(rows: Sequence[Row]) -> dict[str, Sequence[Any]]:
    """The rows of `export.sql` as columns of the file."""
    (offset, entity, sequence_number, payload, tags, deleted, writer, write_timestamp, *rest) = zip(
        *rows, strict=True
    )
    adapter_manifest, event_ser_id, event_ser_manifest, meta_ser_id, meta_ser_manifest, meta_payload = rest
    revision, date, event_type, state_type = zip(*map(_told_by, payload, event_ser_manifest), strict=True)
    return {
        "entity": entity,
        "revision": revision,
        "sequence_number": sequence_number,
        "date": date,
        "event_type": event_type,
        "state_type": state_type,
        "payload": payload,
        "offset": offset,
        "shard": [_shard(of_event) for of_event in tags],
        "tags": tags,
        "deleted": deleted,
        "writer": writer,
        "write_timestamp": write_timestamp,
        "adapter_manifest": adapter_manifest,
        "event_ser_id": event_ser_id,
        "event_ser_manifest": event_ser_manifest,
        "meta_ser_id": meta_ser_id,
        "meta_ser_manifest": meta_ser_manifest,
        "meta_payload": meta_payload,
    }


def _told_by(payload: bytes, manifest: str) -> tuple[int | None, int | None, str | None, str | None]:
    """Revision, date in microseconds since 1970, and the two types; nothing of what is no event of ours."""
    if manifest != _MANIFEST:
        return None, None, None, None
    try:
        message = EventWrapper.FromString(payload)
    except DecodeError:
        return None, None, None, None
    meta, date = message.meta, None
    if meta.HasField("revision_date"):
        date = meta.revision_date.seconds * 1_000_000 + meta.revision_date.nanos // 1_000
    return meta.revision_number, date, message.event.type_url, message.resulting_state.type_url


def _shard(tags: Sequence[str]) -> int | None:
    for tag in tags:
        if tag.removeprefix("-").isascii() and tag.removeprefix("-").isdigit() and len(tag) < 10:
            return int(tag)
    return None
