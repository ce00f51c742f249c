"""A read side on a real journal, whose database fails, is edited by hand, and is shared with a double."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, ReleaseId, Revision, Shard
from cos_ray.domain.read_sides import Replay, ShardState, Skip
from cos_ray.domain.retention import Retention
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.readside.read_side import ReadSide
from cos_ray.readside.settings import ReadSideSettings, Stores
from cos_ray.system.clock import SystemClock
from cos_ray.testing.read_handlers import Attempt, RecordingReadHandler, faults_in
from tests.support.fixtures_postgres import connected
from tests.support.journal import SHARDS, append_of, read_all, until
from tests.support.tcp_proxy import TcpProxy

READ_SIDE = ReadSideId("watch")
ENTITIES = [f"e{number}" for number in range(6)]
_lives = count(1)


@asynccontextmanager
async def running(
    database: Database, handler: RecordingReadHandler, name: ReadSideId = READ_SIDE
) -> AsyncIterator[ReadSide]:
    """A process of the read side."""
    journal, opened = PostgresJournal(database), PostgresReadSideStores(database)
    await journal.open()
    await opened.open()
    shards = [Shard(number) for number in range(SHARDS)]
    quick = Backoff(timedelta(milliseconds=50), timedelta(milliseconds=200))
    settings = ReadSideSettings(
        name, policy=DeliveryPolicy(waits=quick), journal_retry=quick, poll=timedelta(milliseconds=50)
    )
    stores = Stores(journal, opened.places, opened.offsets, opened.controls, opened.letters)
    read_side = ReadSide(
        settings,
        shards,
        shards,
        Owner(f"life {next(_lives)}"),
        ReleaseId("r"),
        stores,
        handler,
        SystemClock(),
    )
    run = asyncio.ensure_future(read_side.run())
    try:
        yield read_side
    finally:
        await read_side.stop()
        await run
        await opened.close()
        await journal.close()
        handler.begin_life()


async def write(journal: PostgresJournal, rounds: range) -> None:
    for expected in rounds:
        await asyncio.gather(*[journal.append(append_of(entity, expected)) for entity in ENTITIES])


async def all_confirmed(handler: RecordingReadHandler, journal: PostgresJournal) -> None:
    """Return when every event is; fail for anything out of order."""
    rows = await read_all(journal)
    histories = Counter(EntityId(row.envelope.meta.entity_id) for row in rows)

    async def are() -> bool:
        return not faults_in(handler.attempts, histories)

    try:
        await until(are, 40)
    except AssertionError:
        raise AssertionError(faults_in(handler.attempts, histories)) from None


async def test_cut_off_from_the_database_again_and_again_it_loses_and_reorders_nothing(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    async def shaky(_attempt: Attempt) -> None:
        await asyncio.sleep(random.random() * 0.02)
        if random.random() < 0.2:
            raise RuntimeError("flapping")

    handler = RecordingReadHandler(shaky)
    async with TcpProxy(database.port) as proxy, running(replace(database, port=proxy.port), handler):
        for number in range(6):
            await write(postgres_journal, range(number * 5, number * 5 + 5))
            proxy.cut_all()
            proxy.refuses = number % 2 == 1
            await asyncio.sleep(0.3)
            proxy.refuses = False
        await all_confirmed(handler, postgres_journal)


async def test_poison_beyond_a_thousand_events_stops_nobody_and_is_delivered_in_the_end(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    handler = RecordingReadHandler()
    handler.fail("bad", 2)
    shard = append_of("bad", 0).shard
    good = [name for name in map("good{}".format, range(200)) if append_of(name, 0).shard == shard][:20]
    for round_ in range(15):
        await postgres_journal.append(append_of("bad", round_ * 100, events=100))
        await asyncio.gather(
            *[postgres_journal.append(append_of(name, round_ * 10, events=10)) for name in good]
        )
    async with running(database, handler) as read_side:
        # 3,000 events of others, and 1,499 of its own behind it.
        await until(lambda: _true(len(handler.confirmed()) == 3_001), 60)
        assert handler.confirmed("bad") == [1]
        status = read_side.status()[shard]
        assert (status.state, status.pending) == (ShardState.RETRYING, 1_499)
        handler.heal()
        await all_confirmed(handler, postgres_journal)
        newest = (await read_all(postgres_journal, 10_000))[-1].offset
        await until(lambda: _true(read_side.status()[shard].offset == newest))
    assert len(handler.confirmed()) == 4_500


async def test_an_offset_put_back_by_hand_is_where_the_next_life_begins(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    handler = RecordingReadHandler()
    await write(postgres_journal, range(4))
    async with running(database, handler):
        await all_confirmed(handler, postgres_journal)
    with connected(database) as connection:
        connection.execute("update read_side_offsets set current_offset = '0'")
    async with running(database, handler):
        await until(lambda: _true(len(handler.attempts) == 2 * 4 * len(ENTITIES)))
        await all_confirmed(handler, postgres_journal)


async def test_an_offset_made_nonsense_by_hand_stops_its_shard_until_it_is_replayed(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    handler = RecordingReadHandler()
    await write(postgres_journal, range(2))
    async with running(database, handler):
        await all_confirmed(handler, postgres_journal)
    with connected(database) as connection:
        ((shard,),) = connection.execute(
            "update read_side_offsets set current_offset = 'where was I?' where projection_key = "
            "(select min(projection_key) from read_side_offsets) returning projection_key"
        ).fetchall()
    await write(postgres_journal, range(2, 4))
    async with running(database, handler) as read_side:
        stuck = Shard(int(str(shard)))
        await until(lambda: _true(read_side.status()[stuck].state is ShardState.STOPPED))
        error = read_side.status()[stuck].last_error
        assert error is not None
        assert "no number" in error.reason
        assert (await read_side.obey(Replay({stuck: Offset(0)}))).count == 1
        await all_confirmed(handler, postgres_journal)


async def test_one_that_comes_back_to_a_journal_that_has_deleted_what_it_had_not_seen_says_so(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    """It was taken out of the configuration for a while, so nothing was kept for it."""
    handler = RecordingReadHandler()
    retention = Retention(frequency=10, keep=2, deletes_events=True, delete_after=timedelta(0))
    await postgres_journal.append(append_of("a", 0, events=20))
    await write(postgres_journal, range(2))
    async with running(database, handler):
        await all_confirmed(handler, postgres_journal)
    deleting = PostgresJournal(database, retention=retention)
    await deleting.open()
    for number in range(20, 66):
        await deleting.append(append_of("a", number))

    async def is_deleted() -> bool:
        return (await deleting.history(EntityId("a"), Revision(1), 1))[0].sequence_number == 41

    await until(is_deleted)
    handler.attempts.clear()
    stuck = append_of("a", 0).shard
    async with running(database, handler) as read_side:
        await until(lambda: _true(read_side.status()[stuck].state is ShardState.STOPPED))

        def other_states() -> set[ShardState]:
            return {each.state for each in read_side.status() if each.shard != stuck}

        await until(lambda: _true(other_states() == {ShardState.RUNNING}))
        error = read_side.status()[stuck].last_error
        assert error is not None
        assert "were deleted before this read side had seen them" in error.reason
        assert not handler.attempts
        assert (await read_side.obey(Skip(frozenset(map(Shard, range(SHARDS)))))).count == 1
        await until(lambda: _true(len(handler.attempts) == 26))
    assert [attempt.revision for attempt in handler.attempts] == list(range(41, 67))
    # A new one has no place to come back to: it begins with what is left.
    new = RecordingReadHandler()
    async with running(database, new, ReadSideId("new")):
        await until(lambda: _true(len(new.attempts) == 26 + 2 * len(ENTITIES)))
    await deleting.close()


async def test_of_two_copies_the_older_one_hands_over_and_lets_go(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    handler = RecordingReadHandler()
    async with running(database, handler) as old:
        await until(lambda: _true(all(each.state is ShardState.RUNNING for each in old.status())))
        async with running(database, handler) as new:
            await until(lambda: _true(all(each.state is ShardState.RUNNING for each in new.status())))
            handler.begin_life()
            await write(postgres_journal, range(3))
            await until(lambda: _true(all(each.state is ShardState.ELSEWHERE for each in old.status())))
            before = len(handler.attempts)
            await write(postgres_journal, range(3, 6))
            await until(lambda: _true(sum(each.deliveries for each in new.status()) >= 6 * len(ENTITIES)))
            # From here on one of them delivers.
            assert len(handler.attempts) <= before + 3 * len(ENTITIES) + 3 * len(ENTITIES)
            newest = {row.offset for row in await read_all(postgres_journal)}
            await until(lambda: _true(max(each.offset for each in new.status()) == max(newest)))


async def test_orders_without_a_database_are_an_error_and_change_nothing(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    handler = RecordingReadHandler()
    await write(postgres_journal, range(3))
    async with TcpProxy(database.port) as proxy, running(replace(database, port=proxy.port), handler) as it:
        await all_confirmed(handler, postgres_journal)
        proxy.refuses = True
        proxy.cut_all()
        with pytest.raises(JournalUnavailable):
            await it.obey(Replay(dict.fromkeys(map(Shard, range(SHARDS)), Offset(0))))
        proxy.refuses = False
        handler.begin_life()
        await write(postgres_journal, range(3, 6))
        await all_confirmed(handler, postgres_journal)


async def _true(condition: bool) -> bool:
    return condition
