"""
The journal next to bare Postgres: appends, recovery, and rows in and out of files.

    uv run python -m benchmarks.journal [--rounds 5] [--seconds 2] [--only appends,recovery,files]

`n in flight` means n entities, each of which appends its next event when the last is stored; the
bare figure inserts as many rows and tags with one prepared statement, again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Series, ratio_of
from cos_ray.domain.ids import CommandId, EntityId, Revision, Shard
from cos_ray.domain.messages import Append, EventEnvelope, Meta, Packed
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.postgres.parquet.exporting import Selection, export
from cos_ray.postgres.parquet.importing import import_files
from cos_ray.postgres.rows import encode

IN_FLIGHT = (1, 8, 64)
SHARDS = (1, 16)
FILE_ROWS = (20_000, 200_000)

_DATE = datetime(2026, 1, 2, tzinfo=timezone.utc)
_URL = b"type.googleapis.com/bench.Something"
_ANY = Packed(b"\x0a" + bytes([len(_URL)]) + _URL + b"\x12\x64" + b"x" * 100)

_BARE = """
with landed as (
    insert into event_journal (
        persistence_id, sequence_number, deleted, writer, write_timestamp,
        adapter_manifest, event_ser_id, event_ser_manifest, event_payload
    )
    select e, n, false, w, 0, '', 5001, 'chief_of_state.v1.EventWrapper', p
    from unnest(%b::text[], %b::bigint[], %b::text[], %b::bytea[]) as a (e, n, w, p)
    returning ordering
)
insert into event_tag (event_id, tag) select ordering, '0' from landed
"""

_fresh = count(1)
console = Console()


def append_of(entity: str, shard: int, expected: int) -> Append:
    """An event of some 100 bytes and a state of as many."""
    entity_id = EntityId(entity)
    number = Revision(expected + 1)
    envelope = EventEnvelope(_ANY, _ANY, Meta(entity_id, number, _DATE), number)
    command_id = CommandId(f"{entity}/{expected}")
    return Append(entity_id, Shard(shard), command_id, Revision(expected), (envelope,))


async def measure_appends(
    database: Database, seconds: float, in_flight: int, shards: int, to: Series
) -> None:
    """As many entities, each appending one event after the other."""
    journal = PostgresJournal(database)
    await journal.open()
    run = next(_fresh)
    latencies: list[float] = []

    async def write(number: int, until: float, note: list[float]) -> None:
        entity, expected = f"{run}-{number}-{until}", 0
        while (began := time.perf_counter()) < until:
            await journal.append(append_of(entity, number % shards, expected))
            note.append(time.perf_counter() - began)
            expected += 1

    warm_until = time.perf_counter() + 0.2
    await asyncio.gather(*[write(n, warm_until, []) for n in range(in_flight)])
    began = time.perf_counter()
    await asyncio.gather(*[write(n, began + seconds, latencies) for n in range(in_flight)])
    to.add(len(latencies), time.perf_counter() - began, latencies)
    await journal.close()


def measure_bare(database: Database, seconds: float, rows: int, to: Series) -> None:
    """One connection that does nothing but insert."""
    run = next(_fresh)
    payload = encode(append_of(f"{run}-1", 0, 0)).payloads[0]
    latencies: list[float] = []
    with connected(database) as connection:
        names, writers = [f"{run}-{n}" for n in range(rows)], ["command"] * rows
        cursor = connection.cursor(binary=True)
        began = time.perf_counter()
        for number in count(1):
            started = time.perf_counter()
            if started - began > seconds:
                break
            cursor.execute(_BARE, [names, [number] * rows, writers, [payload] * rows], prepare=True)
            latencies.append(time.perf_counter() - started)
        to.add(rows * len(latencies), time.perf_counter() - began, latencies)


def appends(database: Database, rounds: int, seconds: float) -> Table:
    """Appends per second beside bare inserts."""
    cases = [(in_flight, shards) for in_flight in IN_FLIGHT for shards in SHARDS]
    ours = {case: Series() for case in cases}
    bare = {case: Series() for case in cases}
    for _ in range(rounds):
        for case in cases:
            empty(database)
            measure_bare(database, seconds, case[0], bare[case])
            empty(database)
            asyncio.run(measure_appends(database, seconds, *case, ours[case]))
    table = Table("in flight", "shards", "appends/s", "p50 / p99 ms", "bare rows/s", "bare ms", "share")
    for case in cases:
        one, other = ours[case], bare[case]
        table.add_row(
            *map(str, case), one.shown_rate, one.shown_latencies,
            other.shown_rate, other.shown_latencies, ratio_of(one, other),
        )  # fmt: skip
    return table


def recovery(database: Database, rounds: int, seconds: float) -> Table:
    """The newest row of an entity with a short history and of one with a long history."""
    lengths = (10, 10_000)
    series = {length: Series() for length in lengths}

    async def measure() -> None:
        journal = PostgresJournal(database)
        await journal.open()
        for length in lengths:
            one = append_of(f"long-{length}", 0, 0)
            envelopes = tuple(append_of(one.entity_id, 0, number).envelopes[0] for number in range(length))
            await journal.append(Append(one.entity_id, one.shard, one.command_id, one.expected, envelopes))
        for _ in range(rounds):
            for length in lengths:
                latencies = []
                began = time.perf_counter()
                while (started := time.perf_counter()) < began + seconds:
                    await journal.newest(EntityId(f"long-{length}"))
                    latencies.append(time.perf_counter() - started)
                series[length].add(len(latencies), time.perf_counter() - began, latencies)
        await journal.close()

    empty(database)
    asyncio.run(measure())
    table = Table("events", "recoveries/s", "p50 / p99 ms", "share")
    for length in lengths:
        one = series[length]
        table.add_row(f"{length:,}", one.shown_rate, one.shown_latencies, ratio_of(one, series[lengths[0]]))
    return table


def files(database: Database, rounds: int, seconds: float) -> Table:
    """Rows out of a journal and into another, each in a process of its own, whose memory is told."""
    del seconds
    table = Table("events", "exported/s", "peak MB", "imported/s", "peak MB", "file MB")
    for rows in FILE_ROWS:
        series, peaks, size = (Series(), Series()), ([0.0], [0.0]), 0.0
        for _ in range(rounds):
            empty(database)
            fill(database, rows)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "journal.parquet"
                for place, work in enumerate((export_all, import_all)):
                    if work is import_all:
                        size = file.stat().st_size / 2**20
                        empty(database)
                    # A fresh interpreter: a fork would inherit this one's memory.
                    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                        took, peak = pool.submit(work, database, file).result()
                    series[place].add(rows, took)
                    peaks[place].append(peak)
        told = [
            word
            for one, most in zip(series, peaks, strict=True)
            for word in (one.shown_rate, f"{max(most):.0f}")
        ]
        table.add_row(f"{rows:,}", *told, f"{size:.1f}")
    return table


def export_all(database: Database, file: Path) -> tuple[float, float]:
    """Seconds, and the most memory in MB."""
    began = time.perf_counter()
    export(database, Selection(), file, lambda rows, share: None)
    return time.perf_counter() - began, peak_memory()


def import_all(database: Database, file: Path) -> tuple[float, float]:
    """Seconds, and the most memory in MB."""
    began = time.perf_counter()
    import_files(database, [file], lambda rows, share: None)
    return time.perf_counter() - began, peak_memory()


def peak_memory() -> float:
    """Of this process, in MB; the interpreter and its libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fill(database: Database, rows: int) -> None:
    """Entities with ten events each, without the detour of appending them."""
    payload = encode(append_of("entity", 0, 0)).payloads[0]
    with connected(database) as connection:
        connection.execute(
            "insert into event_journal (persistence_id, sequence_number, writer, write_timestamp,"
            " adapter_manifest, event_ser_id, event_ser_manifest, event_payload)"
            " select 'entity-' || n / 10, n %% 10 + 1, 'w' || n, n, '', 5001,"
            " 'chief_of_state.v1.EventWrapper', %s from generate_series(0, %s - 1) n",
            [payload, rows],
        )
        connection.execute("insert into event_tag select ordering, ordering % 16 from event_journal")
        connection.execute("analyze event_journal, event_tag")


def empty(database: Database) -> None:
    """Start from nothing: neither side may profit from the other's rows."""
    with connected(database) as connection:
        connection.execute("truncate event_journal, event_tag")
        connection.execute("checkpoint")


def connected(database: Database) -> psycopg.Connection[tuple[object, ...]]:
    """A plain connection that finds the tables."""
    connection = psycopg.connect(**database.connect_arguments())
    connection.execute("select set_config('search_path', %s, false)", [database.search_path])
    return connection


@contextmanager
def own_server() -> Iterator[Database]:
    """A PostgreSQL for this run only."""
    folder = Path(tempfile.mkdtemp(prefix="cos-ray-benchmark-"))
    server = EmbeddedPostgres(folder / "postgres")
    try:
        database = server.start()
        migrate(database)
        yield database
    finally:
        server.stop()
        shutil.rmtree(folder)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement in each round")
    parser.add_argument("--only", default="appends,recovery,files")
    asked = parser.parse_args()
    parts = {"appends": appends, "recovery": recovery, "files": files}
    with own_server() as database:
        for name, part in parts.items():
            if name in asked.only.split(","):
                table = part(database, asked.rounds, asked.seconds)
                table.title = f"{name}: median of {asked.rounds} rounds (slowest-fastest)"
                console.print(table)


if __name__ == "__main__":
    main()
