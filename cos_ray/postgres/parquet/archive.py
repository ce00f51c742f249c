"""
A journal, or a part of it, as a Parquet file: one row per event.

Every column of the journal's table is there as it was, so that a journal made from the file is the
same journal; beside them stands, for those who analyse, what the payload says of itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cos_ray.domain.errors import CosError


class ArchiveFault(CosError):
    """A file of events cannot be written or read; the message is one line that says which and why."""


FORMAT = b"cos_ray.journal"
"""The key under which a file says what it is, and which edition of it."""

EDITION = b"1"

SCHEMA = pa.schema(
    [
        pa.field("entity", pa.string(), nullable=False),
        pa.field("revision", pa.uint32()),
        pa.field("sequence_number", pa.int64(), nullable=False),
        pa.field("date", pa.timestamp("us", tz="UTC")),
        pa.field("event_type", pa.string()),
        pa.field("state_type", pa.string()),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("shard", pa.int32()),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        # As the table has them, under its own names.
        pa.field("deleted", pa.bool_(), nullable=False),
        pa.field("writer", pa.string(), nullable=False),
        pa.field("write_timestamp", pa.int64()),
        pa.field("adapter_manifest", pa.string()),
        pa.field("event_ser_id", pa.int32(), nullable=False),
        pa.field("event_ser_manifest", pa.string(), nullable=False),
        pa.field("meta_ser_id", pa.int32()),
        pa.field("meta_ser_manifest", pa.string()),
        pa.field("meta_payload", pa.binary()),
    ],
    metadata={FORMAT: EDITION},
)

NEEDED = tuple(
    name for name in SCHEMA.names if name not in {"revision", "date", "event_type", "state_type", "shard"}
)
"""The columns a journal is made of; the others follow from them."""

_REPEATING = [
    "entity",
    "event_type",
    "state_type",
    "event_ser_manifest",
    "adapter_manifest",
    "meta_ser_manifest",
]
"""Columns whose values come again and again, and are worth a dictionary."""

_ROWS_AT_ONCE = 1_000
_OCTETS_AT_ONCE = 8 * 1024 * 1024


class Batch(NamedTuple):
    """Some rows, and where in the file they are."""

    columns: Mapping[str, Sequence[Any]]
    first_row: int
    """Counted from 1."""
    rows: int


class ArchiveWriter:
    """Writes a new file, which is there under its name when all of it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        self._writer: pq.ParquetWriter | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[ArchiveWriter]:
        """Write within the block. Raises ArchiveFault; the file does not appear when the block raises."""
        _refuse_existing(self._path)
        try:
            with self._unfinished.open("wb") as stream:
                options: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
                with pq.ParquetWriter(stream, SCHEMA, use_dictionary=_REPEATING, **options) as self._writer:
                    yield self
                stream.flush()
                os.fsync(stream.fileno())
            _put_in_place(self._unfinished, self._path)
        except OSError as error:
            raise ArchiveFault(f"{self._path} cannot be written: {error.strerror or error}") from error
        finally:
            self._unfinished.unlink(missing_ok=True)

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write rows, as a group of their own."""
        assert self._writer is not None
        self._writer.write_batch(pa.RecordBatch.from_pydict(dict(columns), schema=SCHEMA))


def rows_of(path: Path) -> int:
    """How many rows a file has. Raises ArchiveFault if it is none of ours, or not whole."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def batches_of(path: Path) -> Iterator[Batch]:
    """The file's rows in their order, few at a time. Raises ArchiveFault, naming the rows at fault."""
    with _opened(path) as file:
        row = 1
        for group in range(file.num_row_groups):
            last = row + file.metadata.row_group(group).num_rows - 1
            at_once = _rows_at_once(file.metadata.row_group(group))
            try:
                for batch in file.iter_batches(at_once, row_groups=[group], columns=list(NEEDED)):
                    batch.validate(full=True)
                    _refuse_nulls(path, batch, row)
                    yield Batch(batch.to_pydict(), row, batch.num_rows)
                    row += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise ArchiveFault(
                    f"{path} is damaged in rows {row} to {last}: {_one_line(error)}"
                ) from error


def _rows_at_once(group: pq.RowGroupMetaData) -> int:
    """How many rows of a group are read at once, for its rows as they are on the average."""
    average = max(1, group.total_byte_size // max(1, group.num_rows))
    return max(1, min(_ROWS_AT_ONCE, int(_OCTETS_AT_ONCE // average)))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise ArchiveFault(f"{path} does not exist") from error
    except (pa.ArrowException, OSError) as error:
        raise ArchiveFault(f"{path} is no Parquet file, or not whole: {_one_line(error)}") from error
    with file:
        _refuse_other_schemas(path, file.schema_arrow)
        yield file


def _refuse_other_schemas(path: Path, found: pa.Schema) -> None:
    edition = (found.metadata or {}).get(FORMAT, EDITION)
    if edition != EDITION:
        raise ArchiveFault(
            f"{path} is of edition {edition.decode(errors='replace')}, made by a newer cos_ray"
        )
    for name in NEEDED:
        wanted = SCHEMA.field(name).type
        if name not in found.names:
            raise ArchiveFault(f"{path} is no journal: it has no column {name}")
        if not _is_like(found.field(name).type, wanted):
            raise ArchiveFault(f"{path}: the column {name} holds {found.field(name).type}, not {wanted}")


def _is_like(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column will do: what other tools write may be of the larger kind."""
    if pa.types.is_list(wanted):
        return (pa.types.is_list(found) or pa.types.is_large_list(found)) and _is_like(
            found.value_type, wanted.value_type
        )
    larger = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    return bool(found == wanted or found == larger.get(wanted))


def _refuse_nulls(path: Path, batch: pa.RecordBatch, first_row: int) -> None:
    for name in NEEDED:
        column = batch.column(name)
        if column.null_count and not SCHEMA.field(name).nullable:
            row = first_row + column.is_null().index(True).as_py()
            raise ArchiveFault(f"{path}, row {row}: there is no {name}")


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise ArchiveFault(f"{path} is there already, and is not overwritten")


def _put_in_place(unfinished: Path, path: Path) -> None:
    try:
        # Unlike a rename, a link never takes another file's place.
        os.link(unfinished, path)
    except FileExistsError:
        _refuse_existing(path)
        raise
    except OSError:
        # A file system without links.
        _refuse_existing(path)
        unfinished.rename(path)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
