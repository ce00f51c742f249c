"""Whoever reads the journal takes as much memory as it is meant to, whatever the events weigh."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from cos_ray.domain.ids import EntityId, Offset
from cos_ray.ingress.history_methods import HistoryMethods
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.parquet.exporting import Selection, export
from cos_ray.postgres.parquet.importing import import_files
from cos_ray.protocol.pb.cos_ray.v1.history_pb2 import GetEventsRequest, GetStatesRequest
from cos_ray.subscriptions.subscriptions import Subscriptions, Wanted
from cos_ray.system.clock import SystemClock
from cos_ray.testing.read_handlers import RecordingReadHandler
from cos_ray.writeside.router import Router
from tests.integration.test_read_side_postgres import running
from tests.support.journal import append_of, until
from tests.unit.test_ingress import Context

MEGABYTE = 1024 * 1024


@dataclass
class Peak:
    octets: int = 0


@contextmanager
def peak_of() -> Iterator[Peak]:
    """How much more than before was taken within the block, at its height."""
    peak = Peak()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield peak
        peak.octets = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


async def write(journal: PostgresJournal, entities: int, events: int = 1, octets: int = MEGABYTE) -> None:
    """So many large events of each of so many entities, whose states are as large."""
    for number in range(entities):
        for expected in range(events):
            append = append_of(f"e{number}", expected, padding=octets)
            (envelope,) = append.envelopes
            large = replace(envelope, event=envelope.resulting_state, resulting_state=envelope.event)
            await journal.append(replace(append, envelopes=(large,)))


@pytest.fixture
def service(postgres_journal: PostgresJournal) -> HistoryMethods:
    @dataclass
    class Parts:
        gateway: Router
        history: PostgresJournal
        past: object

    methods = HistoryMethods()
    gateway = Router(None, postgres_journal, SystemClock())  # type: ignore[arg-type]
    methods._parts = Parts(gateway, postgres_journal, postgres_journal.past)  # type: ignore[assignment]
    return methods


async def test_a_read_side_whose_handler_is_down_holds_so_many_bytes(
    postgres_journal: PostgresJournal, database: Database
) -> None:
    await write(postgres_journal, entities=100, events=4)
    handler = RecordingReadHandler()
    handler.fail()
    with peak_of() as peak:
        async with running(database, handler) as read_side:

            async def is_full() -> bool:
                return sum(each.failures for each in read_side.status()) >= 200

            await until(is_full, 60)
    assert peak.octets < 200 * MEGABYTE


async def test_healed_it_delivers_all_of_it(postgres_journal: PostgresJournal, database: Database) -> None:
    await write(postgres_journal, entities=4, events=30)
    seen: list[int] = []

    class Light(RecordingReadHandler):
        async def handle(self, read_side, shard, envelope) -> None:
            if len(seen) < 60 and envelope.meta.entity_id == "e1":
                raise RuntimeError("not yet")
            seen.append(envelope.sequence_number)

    with peak_of() as peak:
        async with running(database, Light()):

            async def is_done() -> bool:
                return len(seen) == 120

            await until(is_done, 60)
    assert peak.octets < 200 * MEGABYTE


async def test_a_page_of_history_reads_what_it_shows(
    postgres_journal: PostgresJournal, service: HistoryMethods
) -> None:
    await write(postgres_journal, entities=1, events=60, octets=2 * MEGABYTE)
    with peak_of() as peak:
        reply = await service.GetEvents(GetEventsRequest(entity_id="e0", page_size=1000), Context())
    assert (len(reply.events), reply.next_revision) == (2, 3)
    assert peak.octets < 40 * MEGABYTE


async def test_states_that_are_too_large_together_are_refused_before_all_are_read(
    postgres_journal: PostgresJournal, service: HistoryMethods
) -> None:
    await write(postgres_journal, entities=60, octets=3 * MEGABYTE)
    ids, context = [f"e{number}" for number in range(60)], Context()
    with peak_of() as peak:
        await service.GetStates(GetStatesRequest(entity_ids=ids), context)
    assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "after 10 of them; ask for fewer at once" in context.details
    assert peak.octets < 150 * MEGABYTE
    reply = await service.GetStates(GetStatesRequest(entity_ids=ids[:10]), Context())
    assert len(reply.states) == 10


async def test_a_subscription_from_the_beginning_holds_a_page(postgres_journal: PostgresJournal) -> None:
    await write(postgres_journal, entities=1, events=100)
    subscriptions = Subscriptions(postgres_journal.tail, SystemClock())
    count = 0
    with peak_of() as peak:
        async for _ in subscriptions.events(Wanted("s", after=Offset(0))):
            count += 1
            if count == 100:
                break
    subscriptions.close()
    assert peak.octets < 50 * MEGABYTE


async def test_an_export_and_an_import_hold_a_page(
    postgres_journal: PostgresJournal, database: Database, other_database: Database, tmp_path: Path
) -> None:
    await write(postgres_journal, entities=10, events=1, octets=1_000)
    await write_more_of_one(postgres_journal)
    with peak_of() as peak:
        rows = await asyncio.to_thread(export, database, Selection(), tmp_path / "file", lambda *_: None)
    assert rows == 110
    assert peak.octets < 80 * MEGABYTE
    with peak_of() as peak:
        assert import_files(other_database, [tmp_path / "file"], lambda *_: None) == 110
    assert peak.octets < 120 * MEGABYTE


async def write_more_of_one(journal: PostgresJournal) -> None:
    for expected in range(100):
        await journal.append(append_of("large", expected, padding=MEGABYTE))


async def test_entities_with_large_states_that_are_asked_for_at_once_come_one_after_the_other(
    postgres_journal: PostgresJournal,
) -> None:
    await write(postgres_journal, entities=60, octets=2 * MEGABYTE)
    lengths = []

    async def ask(number: int) -> None:
        newest = await postgres_journal.newest(EntityId(f"e{number}"))
        assert newest is not None
        lengths.append(len(newest.resulting_state))

    with peak_of() as peak:
        await asyncio.gather(*[ask(number) for number in range(60)])
    assert len(lengths) == 60
    assert peak.octets < 60 * MEGABYTE
