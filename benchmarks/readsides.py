"""
Read sides on a real Postgres: lag, catch-up, and what they cost while nothing happens.

    uv run python -m benchmarks.readsides [--seconds 10] [--events 50000] [--only lag,catch-up,idle]

One process appends, reads and delivers; Postgres is another. Left out are Ray (a poke is a call of
some 1 ms there) and the way to a handler (a gRPC call costs 0.25 ms of CPU here and as much there).
Pokes are gathered for 5 ms, as they are in the service. Lag: from the confirmed append to the
handler's call. Catch-up is compared with one delivery at a time in each shard, which is what 16
entities, one in each shard, amount to.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from cos_ray.domain.ids import CommandId, EntityId, Owner, ReadSideId, ReleaseId, Revision, Shard
from cos_ray.domain.messages import Append, EventEnvelope, Meta, Packed
from cos_ray.domain.sharding import shard_of
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.system.clock import SystemClock

SHARDS = 16
RATES = (50, 300, 1_000)
HANDLER_TIMES = (0, 2, 20)
"""How long a handler takes, in ms."""
IDLE_READ_SIDES = 5
DEBOUNCE = 0.005

_ANY = Packed(b"\x0a\x09bench/Any\x12\x64" + b"x" * 100)
_DATE = datetime(2026, 1, 2, tzinfo=timezone.utc)

console = Console()
_runs = count(1)


class Handler:
    """Takes its time, and notes when it was called for what."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.called: dict[tuple[EntityId, Revision], float] = {}
        self.confirmed = 0
        self.is_done: Callable[[], None] = lambda: None

    async def handle(self, read_side: ReadSideId, shard: Shard, envelope: EventEnvelope) -> None:
        self.called[envelope.meta.entity_id, envelope.sequence_number] = time.perf_counter()
        if self._seconds:
            await asyncio.sleep(self._seconds)
        self.confirmed += 1
        self.is_done()


def append_of(entity: str, first: int, events: int = 1) -> Append:
    """So many events of an entity in one append, each of some 200 bytes."""
    entity_id = EntityId(entity)
    envelopes = tuple(
        EventEnvelope(_ANY, _ANY, Meta(entity_id, Revision(number), _DATE), Revision(number))
        for number in range(first, first + events)
    )
    command = CommandId(f"{entity}/{first}")
    return Append(entity_id, shard_of(entity_id, SHARDS), command, Revision(first - 1), envelopes)


@asynccontextmanager
async def running(database: Database, handler: Handler) -> AsyncIterator[ReadSide]:
    """A read side of its own, from the beginning of the journal."""
    journal, opened = PostgresJournal(database), PostgresReadSideStores(database)
    await journal.open()
    await opened.open()
    shards = [Shard(number) for number in range(SHARDS)]
    name = f"run-{next(_runs)}"
    stores = Stores(journal, opened.places, opened.offsets, opened.controls, opened.letters)
    read_side = ReadSide(
        ReadSideSettings(ReadSideId(name)),
        shards,
        shards,
        Owner(name),
        ReleaseId(name),
        stores,
        handler,
        SystemClock(),
    )
    run = asyncio.ensure_future(read_side.run())
    yield read_side
    await read_side.stop()
    await run
    await opened.close()
    await journal.close()


async def measure_lag(database: Database, rate: int, seconds: float) -> list[float]:  # noqa: C901
    """Seconds from append to call, of each event."""
    handler, journal = Handler(0), PostgresJournal(database)
    await journal.open()
    stored: dict[tuple[EntityId, Revision], float] = {}
    fresh: set[Shard] = set()
    run = next(_runs)

    async def append(number: int, entity: str, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await earlier
        one = append_of(entity, number // 100 + 1)
        await journal.append(one)
        stored[one.entity_id, Revision(number // 100 + 1)] = time.perf_counter()
        fresh.add(one.shard)

    before: dict[str, asyncio.Task[None]] = {}
    async with running(database, handler) as read_side:

        async def poke() -> None:
            while True:
                await asyncio.sleep(DEBOUNCE)
                if fresh:
                    read_side.notify(sorted(fresh))
                    fresh.clear()

        poking = asyncio.ensure_future(poke())
        await asyncio.sleep(1)
        began = time.perf_counter()
        for number in range(int(rate * seconds)):
            wait = began + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            entity = f"lag-{run}-{number % 100}"
            before[entity] = asyncio.create_task(append(number, entity, before.get(entity)))
        await asyncio.gather(*before.values())
        while not stored.keys() <= handler.called.keys():  # noqa: ASYNC110 - at the end, outside of it all
            await asyncio.sleep(0.01)
        poking.cancel()
    await journal.close()
    return sorted(max(0.0, handler.called[key] - at) for key, at in stored.items())


async def measure_catch_up(database: Database, events: int, seconds: float) -> tuple[float, float]:
    """Events per second, and CPU of this process for each, in ms."""
    handler, done = Handler(seconds), asyncio.Event()
    handler.is_done = lambda: done.set() if handler.confirmed >= events else None
    cpu, began = _cpu(), time.perf_counter()
    async with running(database, handler):
        await done.wait()
        took, used = time.perf_counter() - began, _cpu() - cpu
    return events / took, used / events * 1000


async def fill(database: Database, entities: list[str], events: int) -> None:
    """Give the journal so many events, entity by entity in turn."""
    journal = PostgresJournal(database)
    await journal.open()
    each, at_once = events // len(entities), 10
    for first in range(1, each + 1, at_once):
        appends = [append_of(entity, first, min(at_once, each + 1 - first)) for entity in entities]
        await asyncio.gather(*[journal.append(append) for append in appends])
    await journal.close()


async def measure_idle(database: Database, seconds: float) -> tuple[float, float]:
    """Share of a core that five read sides with nothing to do take: here, and in Postgres."""
    async with AsyncExitStack() as stack:
        for _ in range(IDLE_READ_SIDES):
            await stack.enter_async_context(running(database, Handler(0)))
        await asyncio.sleep(5)
        ours, theirs, began = _cpu(), _postgres_cpu(), time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        return (_cpu() - ours) / took, (_postgres_cpu() - theirs) / took


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _postgres_cpu() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--only", default="lag,catch-up,idle")
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cos-ray-bench-"))
    server = EmbeddedPostgres(folder / "postgres")
    try:
        database = server.start()
        migrate(database)
        only = set(wanted.only.split(","))
        if "idle" in only:
            ours, theirs = asyncio.run(measure_idle(database, wanted.seconds))
            console.print(f"{IDLE_READ_SIDES} idle read sides of {SHARDS} shards: {ours:.2%} of a core, "
                          f"and {theirs:.2%} in Postgres")  # fmt: skip
        if "lag" in only:
            _show_lags(database, wanted.seconds)
        if "catch-up" in only:
            _show_catch_up(wanted.events, database)
    finally:
        server.stop()
        shutil.rmtree(folder)


def _show_lags(database: Database, seconds: float) -> None:
    table = Table("events/s", "lag p50, ms", "p99", "worst")
    for rate in RATES:
        lags = asyncio.run(measure_lag(database, rate, seconds))
        figures = [lags[int(len(lags) * share)] * 1000 for share in (0.5, 0.99)] + [lags[-1] * 1000]
        table.add_row(str(rate), *(f"{figure:.1f}" for figure in figures))
    console.print(table)


def _show_catch_up(events: int, database: Database) -> None:
    one_each = {shard_of(EntityId(f"e{n}"), SHARDS): f"e{n}" for n in range(500)}
    table = Table("handler", "1,000 entities: events/s", "CPU each, ms", "one at a time per shard", "ratio")
    filled = {}
    for name, entities, size in (
        ("many", [f"e{n}" for n in range(1_000)], events),
        ("few", sorted(one_each.values()), max(SHARDS * 50, events // 10)),
    ):
        filled[name] = replace(database, schema=f"bench_{name}"), size // len(entities) * len(entities)
        migrate(filled[name][0])
        asyncio.run(fill(filled[name][0], entities, size))
    for milliseconds in HANDLER_TIMES:
        rate, cpu = asyncio.run(measure_catch_up(*filled["many"], milliseconds / 1000))
        alone, _ = asyncio.run(measure_catch_up(*filled["few"], milliseconds / 1000))
        table.add_row(
            f"{milliseconds} ms", f"{rate:,.0f}", f"{cpu:.3f}", f"{alone:,.0f}", f"{rate / alone:.1f}x"
        )
    console.print(table)


if __name__ == "__main__":
    main()
