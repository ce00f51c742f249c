"""A journal in a file: the same journal when it comes back, whole, and readable by others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cos_ray.cli.app import app
from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.postgres.parquet import archive
from cos_ray.postgres.parquet.archive import SCHEMA, ArchiveFault
from cos_ray.postgres.parquet.exporting import Selection, export
from cos_ray.postgres.parquet.importing import import_files
from tests.support.fixtures_postgres import connected
from tests.support.journal import SHARDS, append_of, read_all

EVERYTHING = Selection()


def silent(rows: int, share: float) -> None:
    assert rows >= 0
    assert 0 <= share <= 1


@pytest.fixture
async def filled(postgres_journal: PostgresJournal, database: Database) -> Database:
    """A journal with some of everything, odd rows of Chief of State's included."""
    appends = [append_of(f"e{n}", 0, events=1 + n % 4, padding=n * 10) for n in range(40)]
    await asyncio.gather(*map(postgres_journal.append, appends))
    await postgres_journal.append(append_of("e1", 2, events=3))
    await postgres_journal.append(append_of("日本 '\"%s", 0, events=2))
    with connected(database) as owner:
        owner.execute("select setval(pg_get_serial_sequence('event_journal', 'ordering'), 5000)")
        owner.execute(
            "insert into event_journal (persistence_id, sequence_number, writer, write_timestamp,"
            " event_ser_id, event_ser_manifest, event_payload, meta_ser_id, meta_ser_manifest, meta_payload)"
            " values ('odd', 7, 'w', null, 33, 'other', '\\x00ff', 1, 'm', '\\xffee')"
        )
        owner.execute("insert into event_tag select max(ordering), '-2' from event_journal")
        owner.execute("insert into event_tag select max(ordering), 'more' from event_journal")
        owner.execute("update event_journal set deleted = true where persistence_id = 'e3'")
    return database


def content_of(database: Database) -> tuple[list[Any], list[Any]]:
    with connected(database) as connection:
        return (
            connection.execute("select * from event_journal order by ordering").fetchall(),
            connection.execute("select * from event_tag order by event_id, tag").fetchall(),
        )


async def test_a_journal_that_comes_back_from_a_file_is_the_same_byte_for_byte(
    filled: Database, other_database: Database, tmp_path: Path, postgres_journal: PostgresJournal
) -> None:
    file = tmp_path / "journal.parquet"
    rows = export(filled, EVERYTHING, file, silent)
    assert import_files(other_database, [file], silent) == rows
    assert content_of(other_database) == content_of(filled)
    other = PostgresJournal(other_database)
    await other.open()
    # The odd row's shard is not among those that are read.
    assert await read_all(other) == await read_all(postgres_journal)
    append = append_of("e1", 5)
    offset = await other.append(append)
    assert offset > content_of(filled)[0][-1][0]
    assert await other.newest(EntityId("e1")) == append.envelopes[-1]
    await other.close()


def test_files_of_all_shards_and_the_rest_make_the_whole_journal(
    filled: Database, other_database: Database, tmp_path: Path
) -> None:
    files = [tmp_path / f"{shard}.parquet" for shard in range(SHARDS)]
    for shard, file in enumerate(files):
        export(filled, Selection(shard=Shard(shard)), file, silent)
    odd = tmp_path / "odd.parquet"
    export(filled, Selection(entity_id=EntityId("odd")), odd, silent)
    import_files(other_database, [odd, *reversed(files)], silent)
    assert content_of(other_database) == content_of(filled)


def test_a_file_holds_what_was_asked_for(filled: Database, tmp_path: Path) -> None:
    now = datetime.now(tz=timezone.utc)
    hour = timedelta(hours=1)
    events, _ = content_of(filled)
    wanted: dict[str, tuple[Selection, Callable[[Any], bool]]] = {
        "all": (EVERYTHING, lambda row: True),
        "one": (Selection(entity_id=EntityId("e1")), lambda row: row[1] == "e1"),
        "none": (Selection(entity_id=EntityId("unknown")), lambda row: False),
        "new": (Selection(since=now - hour, until=now + hour), lambda row: row[5] is not None),
        "old": (Selection(until=now - hour), lambda row: False),
        "future": (Selection(since=now + hour), lambda row: False),
    }
    for name, (selection, is_wanted) in wanted.items():
        export(filled, selection, tmp_path / name, silent)
        found = pq.read_table(tmp_path / name)
        assert found.schema == SCHEMA
        assert found["offset"].to_pylist() == [row[0] for row in events if is_wanted(row)], name


def test_a_row_says_what_its_payload_holds(filled: Database, tmp_path: Path) -> None:
    export(filled, EVERYTHING, tmp_path / "file", silent)
    rows = pq.read_table(tmp_path / "file").to_pylist()
    second = next(row for row in rows if (row["entity"], row["sequence_number"]) == ("e1", 2))
    append = append_of("e1", 0, events=2)
    assert second["revision"] == 2
    assert second["date"] == append.envelopes[1].meta.date
    assert second["event_type"] == second["state_type"] == "type.googleapis.com/test.Text"
    assert second["shard"] == append.shard
    assert second["tags"] == [str(append.shard)]
    odd = next(row for row in rows if row["entity"] == "odd")
    assert [odd[name] for name in ("revision", "date", "event_type", "state_type")] == [None] * 4
    assert (odd["shard"], odd["tags"], odd["payload"]) == (-2, ["-2", "more"], b"\x00\xff")


async def test_what_is_stored_during_an_export_is_not_in_the_file(
    postgres_journal: PostgresJournal, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cos_ray.postgres.parquet.exporting._GROUP_ROWS", 1)
    monkeypatch.setattr("cos_ray.postgres.parquet.exporting._PAGE_ROWS", 1)
    await asyncio.gather(*[postgres_journal.append(append_of(f"e{n}", 0)) for n in range(20)])
    loop, numbers = asyncio.get_running_loop(), count()

    def append_more(rows: int, share: float) -> None:
        append = append_of(f"late-{next(numbers)}", 0)
        asyncio.run_coroutine_threadsafe(postgres_journal.append(append), loop).result()

    rows = await asyncio.to_thread(export, database, EVERYTHING, tmp_path / "file", append_more)
    assert rows == 20
    assert len(await read_all(postgres_journal)) > 20


def test_a_file_is_never_overwritten_and_none_is_left_half_written(filled: Database, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ArchiveFault, match="is there already"):
        export(filled, EVERYTHING, file, silent)
    assert file.read_text() == "precious"

    def fail(rows: int, share: float) -> None:
        # Somebody else makes the file meanwhile.
        (tmp_path / "late").write_text("precious, too")

    with pytest.raises(ArchiveFault, match="is there already"):
        export(filled, EVERYTHING, tmp_path / "late", fail)
    assert (tmp_path / "late").read_text() == "precious, too"
    with pytest.raises(ArchiveFault, match="cannot be written"):
        export(filled, EVERYTHING, tmp_path / "no" / "such" / "folder", silent)
    with pytest.raises(ArchiveFault, match="cannot be read"):
        export(replace(filled, schema="nothing here"), EVERYTHING, tmp_path / "unread", silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "late"]


@pytest.mark.parametrize("table", ["event_journal", "read_side_offsets", "state_snapshot"])
def test_a_journal_that_is_not_empty_is_refused_and_left_as_it_is(
    filled: Database, other_database: Database, tmp_path: Path, table: str
) -> None:
    export(filled, EVERYTHING, tmp_path / "file", silent)
    rows = {
        "event_journal": "(persistence_id, sequence_number, writer, event_ser_id, event_ser_manifest,"
        " event_payload) values ('a', 1, 'w', 1, 'm', '')",
        "read_side_offsets": "values ('r', '0', '17', 'SEQ', false, 0)",
        "state_snapshot": "values ('a', 1, 0, 1, 'm', '')",
    }
    migrate(other_database)
    with connected(other_database) as owner:
        owner.execute(f"insert into {table} {rows[table]}".encode())
    before = content_of(other_database)
    with pytest.raises(ArchiveFault, match=f"not empty .*{table}"):
        import_files(other_database, [tmp_path / "file"], silent)
    assert content_of(other_database) == before


def test_a_broken_file_is_refused_by_what_and_where_and_nothing_is_stored(
    filled: Database, other_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cos_ray.postgres.parquet.exporting._GROUP_ROWS", 40)
    monkeypatch.setattr("cos_ray.postgres.parquet.exporting._PAGE_ROWS", 20)
    monkeypatch.setattr(archive, "_ROWS_AT_ONCE", 10)
    good = tmp_path / "good"
    export(filled, EVERYTHING, good, silent)
    table = pq.read_table(good)

    def broken(name: str, change: Callable[[pa.Table], pa.Table]) -> Path:
        pq.write_table(change(table), tmp_path / name)
        return tmp_path / name

    def with_value(column: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
        def change(table: pa.Table) -> pa.Table:
            values = table[column].to_pylist()
            values[row] = value
            place = table.schema.get_field_index(column)
            type_ = table.schema.field(column).type
            return table.set_column(place, pa.field(column, type_), pa.array(values, type_))

        return change

    (tmp_path / "text").write_text("no Parquet at all, but long enough to be one")
    (tmp_path / "short").write_bytes(good.read_bytes()[:-100])
    flipped = bytearray(good.read_bytes())
    payloads = pq.ParquetFile(good).metadata.row_group(1).column(SCHEMA.names.index("payload"))
    flipped[payloads.data_page_offset + payloads.total_compressed_size - 5] ^= 0xFF
    (tmp_path / "flipped").write_bytes(flipped)
    faults = {
        tmp_path / "absent": "does not exist",
        tmp_path / "text": "no Parquet file",
        tmp_path / "short": "no Parquet file, or not whole",
        tmp_path / "flipped": r"damaged in rows \d+ to \d+",
        broken("columns", lambda t: t.drop_columns(["payload"])): "no column payload",
        broken("types", lambda t: t.set_column(2, "sequence_number", t["entity"])): "holds string, not int64",
        broken("null", with_value("payload", 12, None)): "row 13: there is no payload",
        broken("id", with_value("entity", 33, "")): "row 34: empty entity ID",
        broken("number", with_value("sequence_number", 21, 0)): "row 22: 0 is no sequence number",
        broken("twice", lambda t: pa.concat_tables([t, t.slice(5, 1)])): "rows .* already exists",
        broken("long", with_value("writer", 41, "x" * 256)): "rows 41 to 50: .*too long",
    }
    migrate(other_database)
    for file, fault in faults.items():
        with pytest.raises(ArchiveFault, match=fault) as caught:
            import_files(other_database, [file], silent)
        assert str(file) in str(caught.value)
        assert content_of(other_database) == ([], [])
    import_files(other_database, [good], silent)
    assert content_of(other_database) == content_of(filled)


async def test_the_commands_export_and_import(
    filled: Database, other_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(database: Database, *words: str) -> tuple[int, str]:
        environment = {
            "COS_DB_HOST": database.host,
            "COS_DB_PORT": str(database.port),
            "COS_DB_PASSWORD": database.password,
            "COS_DB_SCHEMA": database.schema,
        }
        result = CliRunner().invoke(app, ["journal", *words], env=environment)
        return result.exit_code, result.output

    file = str(tmp_path / "file.parquet")
    status, said = run(filled, "export", file, "--since", "2020-01-01", "--until", "2100-01-01T00:00:00")
    assert status == 0, said
    assert "events of" in said
    assert run(filled, "export", file)[0] == 1
    assert "is there already" in run(filled, "export", file)[1]
    status, said = run(other_database, "import", file)
    assert status == 0, said
    status, said = run(other_database, "import", file)
    assert status == 1
    assert "not empty" in said
    assert "Traceback" not in said


def test_the_commands_find_the_embedded_database_whether_it_runs_or_not(
    filled: Database, tmp_path: Path
) -> None:
    file, again = tmp_path / "file", tmp_path / "again"
    export(filled, EVERYTHING, file, silent)
    environment = {"COS_DATA_DIR": str(tmp_path / "data")}
    result = CliRunner().invoke(app, ["journal", "import", str(file)], env=environment)
    assert result.exit_code == 0, result.output
    server = EmbeddedPostgres(tmp_path / "data")
    database = server.start()
    try:
        result = CliRunner().invoke(app, ["journal", "export", str(again)], env=environment)
        assert result.exit_code == 0, result.output
        assert content_of(database) == content_of(filled)
    finally:
        server.stop()
    assert pq.read_table(again) == pq.read_table(file)


async def test_events_page_by_page_come_in_the_same_order_after_an_import(
    filled: Database, other_database: Database, tmp_path: Path, postgres_journal: PostgresJournal
) -> None:
    export(filled, EVERYTHING, tmp_path / "file", silent)
    import_files(other_database, [tmp_path / "file"], silent)
    other = PostgresJournal(other_database)
    await other.open()
    for shard in range(SHARDS):
        page = await other.after(Shard(shard), Offset(0), 1000)
        assert page == await postgres_journal.after(Shard(shard), Offset(0), 1000)
    await other.close()


def test_others_read_the_files_as_any_data_set(filled: Database, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    for shard in range(SHARDS):
        export(filled, Selection(shard=Shard(shard)), folder / f"{shard}.parquet", silent)
    import pyarrow.dataset as ds

    data = ds.dataset(folder)
    assert data.count_rows(filter=ds.field("event_type") == "type.googleapis.com/test.Text") == len(
        [row for row in content_of(filled)[0] if row[1] != "odd"]
    )
