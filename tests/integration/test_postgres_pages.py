"""Pages of large events: bounded by bytes, on wires of any speed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, ReleaseId, Revision
from cos_ray.domain.messages import EventEnvelope
from cos_ray.domain.pages import PAGE_OCTETS, Page
from cos_ray.postgres import connections as postgres_connections
from cos_ray.postgres import database as postgres_database
from cos_ray.postgres import paging
from cos_ray.postgres.database import Database
from cos_ray.postgres.identities import known_row
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.postgres.statements import statement
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, until
from tests.support.tcp_proxy import TcpProxy

MEGABYTE = 1024 * 1024
A = EntityId("a")
LAST = Offset(2**62)
SHARD = append_of("a", 0).shard
READ_SIDE = ReadSideId("r")


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[PostgresReadSideStores]:
    stores = PostgresReadSideStores(database)
    await stores.open()
    yield stores
    await stores.close()


async def write(journal: PostgresJournal, events: int, octets: int = MEGABYTE) -> None:
    for expected in range(events):
        await journal.append(append_of("a", expected, padding=octets))


def octets_of(page: Page[object]) -> int:
    envelopes = [each if isinstance(each, EventEnvelope) else each.envelope for each in page]  # type: ignore[attr-defined]
    return sum(len(envelope.event) + len(envelope.resulting_state) for envelope in envelopes)


def number_of(each: object) -> int:
    envelope = each if isinstance(each, EventEnvelope) else each.envelope  # type: ignore[attr-defined]
    return int(envelope.sequence_number)


async def test_every_page_of_events_ends_for_its_bytes_and_what_follows_comes_with_the_next(
    postgres_journal: PostgresJournal, stores: PostgresReadSideStores
) -> None:
    await write(postgres_journal, 11)
    owner = Owner("me")
    standing = await stores.controls.enlist(ReleaseId("r"))
    await stores.controls.take(READ_SIDE, [SHARD], owner, standing, timedelta(minutes=1))
    for event in await read_on(lambda at: postgres_journal.after(SHARD, Offset(at), 100), by_offset=True):
        await stores.letters.park(READ_SIDE, SHARD, event, "", 0, owner)  # type: ignore[arg-type]
    tail, places = postgres_journal.tail, stores.places
    assert len(await read_on(lambda at: tail.between(Offset(at), LAST, 100), by_offset=True)) == 11
    assert len(await read_on(lambda at: tail.of_entity(A, Revision(at + 1), LAST, 100))) == 11
    assert len(await read_on(lambda at: places.events_of(A, Revision(at + 1), 100))) == 11
    assert len(await read_on(lambda at: postgres_journal.history(A, Revision(at + 1), 100))) == 11
    letters = await stores.letters.letters(READ_SIDE, A, 100)
    assert (len(letters), letters.has_more) == (4, True)
    assert len(await stores.letters.letters(READ_SIDE, None, 100)) == 4
    long_ago = datetime(2000, 1, 1, tzinfo=timezone.utc)
    assert await postgres_journal.past.at_time(A, long_ago) is None


async def read_on(
    page_after: Callable[[int], Awaitable[Page[object]]], *, by_offset: bool = False
) -> list[object]:
    """All events, page by page; each page has what fits, and says whether more follows."""
    found: list[object] = []
    at = 0
    while True:
        page = await page_after(at)
        assert octets_of(page) < PAGE_OCTETS + 2 * MEGABYTE
        found += page
        assert [number_of(each) for each in found] == list(range(1, len(found) + 1))
        if not page.has_more:
            return found
        assert len(page) >= 1
        at = page[-1].offset if by_offset else number_of(page[-1])  # type: ignore[attr-defined]


async def test_one_event_larger_than_a_page_comes_alone(postgres_journal: PostgresJournal) -> None:
    await write(postgres_journal, 2, 9 * MEGABYTE)
    page = await postgres_journal.after(SHARD, Offset(0), 100)
    assert (len(page), page.has_more) == (1, True)
    page = await postgres_journal.after(SHARD, page[0].offset, 100)
    assert [number_of(each) for each in page] == [2]


async def test_the_newest_states_of_many_entities_come_in_several_answers(
    postgres_journal: PostgresJournal,
) -> None:
    ids = [f"e{number}" for number in range(15)]
    await asyncio.gather(*[postgres_journal.append(append_of(id_, 0, padding=MEGABYTE)) for id_ in ids])
    asked = [*ids, "nobody", *ids]
    found = await asyncio.gather(*[postgres_journal.newest(EntityId(id_)) for id_ in asked])
    assert [each and each.meta.entity_id for each in found] == [*ids, None, *ids]


async def test_what_is_not_shown_is_not_read_from_where_large_values_are(
    postgres_journal: PostgresJournal, database: Database
) -> None:
    await write(postgres_journal, 12)
    parameters = {"tag": str(SHARD), "offset": 0, "limit": 100, "octets": 1, **known_row(None)}
    with connected(database) as connection:
        query = b"explain (analyze, buffers) " + statement("after").encode()
        rows = connection.execute(query, parameters).fetchall()
    plan = "\n".join(str(line) for (line,) in rows)
    blocks = sum(map(int, re.findall(r"shared (?:hit=(\d+))", plan.split("Planning")[0])[:1]))
    # Twelve megabytes are 1,500 blocks.
    assert blocks < 100, plan


async def test_on_a_slow_wire_a_long_backlog_of_large_events_is_read(
    postgres_journal: PostgresJournal, database: Database
) -> None:
    await write(postgres_journal, 60)
    async with TcpProxy(database.port) as proxy:
        # All of it takes 7.5 s, and a statement 5 s at the most.
        proxy.rate = 8 * MEGABYTE
        far = PostgresJournal(replace(database, port=proxy.port))
        await far.open()
        try:
            found = await read_on(lambda at: far.after(SHARD, Offset(at), 200), by_offset=True)
            assert len(found) == 60
        finally:
            await far.close()


async def test_a_page_that_takes_too_long_comes_in_smaller_pieces_down_to_one_row(
    postgres_journal: PostgresJournal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(postgres_journal, 4)
    quick = timedelta(seconds=0.4)
    monkeypatch.setattr(postgres_database, "STATEMENT_TIMEOUT", quick)
    monkeypatch.setattr(paging, "STATEMENT_TIMEOUT", quick)
    monkeypatch.setattr(postgres_connections, "CALL_LIMIT", timedelta(seconds=1))
    async with TcpProxy(database.port) as proxy:
        # One event takes two seconds: longer than any statement may that is not given more time.
        proxy.rate = MEGABYTE / 2
        far = PostgresJournal(replace(database, port=proxy.port))
        await far.open()
        far._connections.page_size.time = quick.total_seconds()
        found: list[object] = []

        async def is_read() -> bool:
            try:
                page = await far.after(SHARD, Offset(found[-1].offset if found else 0), 200)  # type: ignore[attr-defined]
            except JournalUnavailable:
                return False
            found.extend(page)
            return len(found) == 4

        try:
            await until(is_read, 60)
        finally:
            await far.close()
    assert [number_of(each) for each in found] == [1, 2, 3, 4]
