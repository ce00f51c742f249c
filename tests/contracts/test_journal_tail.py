"""What holds of the journal as one sequence of events, the fake's and the real one's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from cos_ray.domain.errors import HistoryWentBack
from cos_ray.domain.ids import EntityId, Offset, Revision
from cos_ray.domain.messages import JournaledEvent
from cos_ray.domain.watermark import UnreadableRow, Watermark
from cos_ray.ports import JournalTail
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.subscriptions.subscriptions import Subscriptions, Wanted
from cos_ray.system.clock import SystemClock
from tests.contracts.conftest import AnyJournal, MarkDeleted
from tests.contracts.rigs import MemoryRig, PostgresRig, Rig, postgres_rig
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, until
from tests.support.tcp_proxy import TcpProxy

A = EntityId("a")
ALL = Offset(2**62)


def tail_of(journal: AnyJournal) -> JournalTail:
    return journal.tail if isinstance(journal, PostgresJournal) else journal  # type: ignore[return-value]


@pytest.fixture(params=["memory", "postgres"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "memory":
        yield MemoryRig()
        return
    async with postgres_rig(request.getfixturevalue("database")) as rig:
        yield rig


async def test_it_begins_empty_and_ends_at_the_newest_offset(journal: AnyJournal) -> None:
    assert (await tail_of(journal).head()).newest == 0
    offset = await journal.append(append_of("a", 0, events=3))
    head = await tail_of(journal).head()
    assert (head.newest, head.writing) == (offset, {})


async def test_events_come_in_the_order_of_their_offsets_between_two_of_them(journal: AnyJournal) -> None:
    appends = [append_of(entity, 0, events=2) for entity in ("a", "b", "c", "d")]
    for append in appends:
        await journal.append(append)
    tail = tail_of(journal)
    events = await tail.between(Offset(0), ALL, 100)
    offsets = [event.offset for event in events]
    assert offsets == sorted(offsets)
    assert [e.envelope for e in events if isinstance(e, JournaledEvent)] == [
        envelope for append in appends for envelope in append.envelopes
    ]
    assert await tail.between(offsets[1], offsets[4], 100) == events[2:5]
    assert await tail.between(offsets[1], offsets[6], 2) == events[2:4]
    assert await tail.between(offsets[-1], ALL, 100) == []


async def test_an_entitys_events_come_from_a_number_on_up_to_an_offset(
    journal: AnyJournal, mark_deleted: MarkDeleted
) -> None:
    await journal.append(append_of("a", 0, events=3))
    await journal.append(append_of("b", 0))
    last = await journal.append(append_of("a", 3))
    tail = tail_of(journal)

    async def numbers(first: int, up_to: int, limit: int = 10) -> list[int]:
        found = await tail.of_entity(A, Revision(first), Offset(up_to), limit)
        return [e.envelope.sequence_number for e in found if isinstance(e, JournaledEvent)]

    assert await numbers(0, last) == [1, 2, 3, 4]
    assert await numbers(2, last, 2) == [2, 3]
    assert await numbers(1, last - 1) == [1, 2, 3]
    mark_deleted(A, Revision(2))
    assert await numbers(1, last) == [3, 4]
    assert await tail.of_entity(EntityId("\0"), Revision(1), ALL, 1) == []


async def test_who_is_writing_is_seen_until_it_is_committed(rig: Rig) -> None:
    tail = tail_of(rig.journal)
    append = append_of("a", 0)
    async with rig.committing_late(append) as offset:
        head = await tail.head()
        assert set(head.writing) == {append.shard}
        assert head.newest < offset
    head = await tail.head()
    assert (head.newest, head.writing) == (offset, {})


async def test_read_up_to_the_watermark_nothing_is_missed_whoever_commits_late(rig: Rig) -> None:
    tail, rng = tail_of(rig.journal), random.Random(7)
    mark, told, stored = Watermark(), list[JournaledEvent](), 0
    after = (await tail.head()).newest
    for round_ in range(6):
        async with AsyncExitStack() as late:
            taken = set()
            for number in range(6):
                append = append_of(f"{round_}-{number}", 0, events=2)
                if append.shard in taken:
                    continue
                stored += 2
                if rng.random() < 0.4:
                    taken.add(append.shard)
                    await late.enter_async_context(rig.committing_late(append))
                else:
                    await rig.journal.append(append)
            mark = mark.after(await tail.head())
            told += await tail.between(after, mark.complete, 100)  # type: ignore[arg-type]
            after = max(after, mark.complete)
    mark = mark.after(await tail.head())
    told += await tail.between(after, mark.complete, 100)  # type: ignore[arg-type]
    offsets = [event.offset for event in told]
    assert offsets == sorted(set(offsets))
    assert len(told) == stored


async def test_an_event_that_nobody_can_read_is_named(
    postgres_journal: PostgresJournal, database: Database
) -> None:
    offset = await postgres_journal.append(append_of("a", 0))
    with connected(database) as connection:
        connection.execute("update event_journal set event_payload = '\\xff'")
    tail = postgres_journal.tail
    assert await tail.between(Offset(0), ALL, 1) == [UnreadableRow(offset, A)]
    assert await tail.of_entity(A, Revision(1), ALL, 1) == [UnreadableRow(offset, A)]


async def test_a_journal_that_lacks_what_was_read_says_so_and_one_that_deleted_it_does_not(
    journal: AnyJournal, request: pytest.FixtureRequest
) -> None:
    tail = tail_of(journal)
    await journal.append(append_of("a", 0, events=3))
    first, second, third = await tail.between(Offset(0), ALL, 10)
    assert first.row is not None
    assert second.row is not None
    assert third.row is not None
    foreign = replace(third.row, written_at=(third.row.written_at or 0) + 1)
    other = [
        replace(third.row, entity_id=EntityId("b")),
        replace(third.row, sequence_number=Revision(4)),
        foreign,
    ]
    await journal.append(append_of("a", 3))
    for row in (None, first.row, third.row):
        assert (await tail.head(row)).newest_row is not None
        assert len(await tail.between(Offset(0), ALL, 10, row)) == 4
        assert len(await tail.of_entity(A, Revision(1), ALL, 10, row)) == 4
    for row in other:
        with pytest.raises(HistoryWentBack):
            await tail.head(row)
        with pytest.raises(HistoryWentBack):
            await tail.between(Offset(0), ALL, 10, row)
        with pytest.raises(HistoryWentBack):
            await tail.of_entity(A, Revision(1), ALL, 10, row)
        shard = append_of("a", 9).shard
        with pytest.raises(HistoryWentBack):
            await journal.after(shard, ALL, 1, row)
        assert set(await journal.stirring({shard: ALL}, {shard: row})) == {shard}
    there = await tail.still_there([first.row, *other])
    assert set(there) == {first.offset}
    shard = append_of("a", 9).shard
    assert await journal.after(shard, ALL, 1, third.row) == []
    assert set(await journal.stirring({shard: ALL}, {shard: third.row})) == set()


async def test_an_event_that_was_deleted_is_no_sign_that_the_journal_went_back(
    postgres_journal: PostgresJournal, database: Database
) -> None:
    tail = postgres_journal.tail
    await postgres_journal.append(append_of("a", 0, events=3))
    rows = [event.row for event in await tail.between(Offset(0), ALL, 10) if event.row is not None]
    with connected(database) as connection:
        connection.execute("delete from event_journal where sequence_number < 3")
        assert set(await tail.still_there(rows)) == {row.offset for row in rows}
        # The newest event of an entity is never deleted.
        connection.execute("delete from event_journal")
        assert set(await tail.still_there(rows)) == set()


async def listen(
    subscriptions: Subscriptions, wanted: Wanted, into: list[JournaledEvent], most: int = 10**9
) -> None:
    async for event in subscriptions.events(wanted):
        into.append(event)
        if len(into) >= most:
            return


async def leave_and_resume(subscriptions: Subscriptions, into: list[JournaledEvent]) -> None:
    """Leave after a few events, again and again, and come back with the last offset."""
    while True:
        after = into[-1].offset if into else Offset(0)
        await listen(subscriptions, Wanted("resumed", after=after), into, len(into) + 17)


async def test_the_first_subscriber_is_let_in_under_load_and_misses_nothing_from_then_on(
    postgres_journal: PostgresJournal, database: Database
) -> None:
    """At every moment somebody holds a lock: each transaction begins before the one before it ends."""
    names = [[n for n in map(str, range(200)) if append_of(n, 0).shard == shard] for shard in (0, 1)]
    is_over = asyncio.Event()
    stored: list[Offset] = []

    async def write_without_a_pause() -> None:
        rig = PostgresRig(postgres_journal, database, TcpProxy(database.port))
        writing, number = AsyncExitStack(), 0
        offset = await writing.enter_async_context(rig.committing_late(append_of(names[0][0], 0)))
        while not is_over.is_set():
            number += 1
            following = AsyncExitStack()
            append = append_of(names[number % 2][number // 2], 0)
            coming = await following.enter_async_context(rig.committing_late(append))
            await asyncio.sleep(0.01)
            await writing.aclose()
            stored.append(offset)
            writing, offset = following, coming
        await writing.aclose()
        stored.append(offset)

    writer = asyncio.ensure_future(write_without_a_pause())
    await until(lambda: is_true(len(stored) > 2))
    subscriptions = Subscriptions(postgres_journal.tail, SystemClock())
    heard: list[JournaledEvent] = []
    before: list[Offset] = []

    async def listen_from_now() -> None:
        async for event in subscriptions.events(Wanted("all"), lambda: before.extend(stored)):
            heard.append(event)

    listener = asyncio.ensure_future(listen_from_now())
    await until(lambda: is_true(len(heard) > 5))
    is_over.set()
    await writer
    after = set(stored) - set(before)
    await until(lambda: is_true(after <= {event.offset for event in heard}))
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    subscriptions.close()
    offsets = [event.offset for event in heard]
    assert offsets == sorted(set(offsets))


async def is_true(condition: bool) -> bool:
    return condition


async def test_under_many_writers_every_subscriber_hears_everything_once_and_in_order(
    postgres_journal: PostgresJournal,
) -> None:
    subscriptions = Subscriptions(postgres_journal.tail, SystemClock())
    heard: list[JournaledEvent] = []
    resumed: list[JournaledEvent] = []

    async def write(entity: str) -> None:
        for revision in range(0, 60, 2):
            await postgres_journal.append(append_of(entity, revision, events=2))

    tasks = [
        asyncio.ensure_future(leave_and_resume(subscriptions, resumed)),
        asyncio.ensure_future(listen(subscriptions, Wanted("all", after=Offset(0)), heard)),
    ]
    await asyncio.gather(*[write(f"w{n}") for n in range(12)])

    async def all_is_heard() -> bool:
        return len(heard) >= 720 <= len(resumed)

    await until(all_is_heard)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    subscriptions.close()
    assert heard == resumed == await postgres_journal.tail.between(Offset(0), ALL, 10_000)
    assert len(heard) == 720
