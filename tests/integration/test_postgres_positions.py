"""Where events lie: lags, times and entities, in a real journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone

import pytest

from cos_ray.domain.ids import EntityId, Offset, Revision, Shard
from cos_ray.postgres import dates
from cos_ray.postgres import positions as places_module
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.positions import PostgresPositions
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
async def journal(database: Database) -> AsyncIterator[PostgresJournal]:
    journal = PostgresJournal(database)
    await journal.open()
    yield journal
    await journal.close()


@pytest.fixture
async def places(database: Database) -> AsyncIterator[PostgresPositions]:
    stores = PostgresReadSideStores(database)
    await stores.open()
    yield stores.places
    await stores.close()


async def stored(journal: PostgresJournal, entity_id: str, count: int) -> tuple[Shard, list[Offset]]:
    """The entity's shard, and where its so many events lie, another's among them."""
    offsets = []
    for number in range(count):
        append = append_of(entity_id, number)
        offsets.append(await journal.append(append))
        await journal.append(append_of(f"other than {entity_id}", number))
    return append.shard, offsets


def date_events(database: Database) -> None:
    """Let every event be stored a minute after the one before, the first at noon."""
    with connected(database) as connection:
        connection.execute(
            "update event_journal j set write_timestamp = %s + 60000 * n.n from ("
            "  select ordering, row_number() over (order by ordering) - 1 as n from event_journal"
            ") n where n.ordering = j.ordering",
            [int(NOON.timestamp() * 1000)],
        )


async def test_shards_with_something_new_stir(journal: PostgresJournal) -> None:
    shard, offsets = await stored(journal, "a", 3)
    assert set(await journal.stirring({shard: offsets[1]})) == {shard}
    assert set(await journal.stirring({shard: offsets[2], Shard(9999): Offset(0)})) <= {shard}
    newest = {shard: Offset(10**9)}
    assert set(await journal.stirring(newest)) == set()


async def test_a_lag_is_what_follows_an_offset(
    journal: PostgresJournal, places: PostgresPositions, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, offsets = await stored(journal, "a", 5)
    date_events(database)
    everything = (await places.lags({shard: Offset(0)}))[shard]
    assert everything.oldest is not None
    assert (everything.is_more, everything.oldest >= NOON) == (False, True)
    lag = (await places.lags({shard: offsets[-1] - 1}))[shard]
    assert lag.events >= 1
    assert (await places.lags({shard: Offset(10**9)}))[shard] == places_module.Lag()
    monkeypatch.setattr(places_module, "MOST_COUNTED", 2)
    bounded = (await places.lags({shard: Offset(0)}))[shard]
    assert (bounded.events, bounded.is_more) == (2, True)


async def test_everything_since_a_time_lies_behind_the_place_before_it(
    journal: PostgresJournal, places: PostgresPositions, database: Database
) -> None:
    shard, _ = await stored(journal, "a", 20)
    date_events(database)
    with connected(database) as connection:
        rows = connection.execute(
            "select ordering, write_timestamp from event_journal join event_tag on event_id = ordering "
            "where tag = %s order by ordering",
            [str(shard)],
        ).fetchall()
    for minutes in (-1, 0, 1, 7, 7.5, 39, 100):
        since = NOON + timedelta(minutes=minutes)
        place = (await places.before([shard], since))[shard]
        expected = [ordering for ordering, written in rows if written >= since.timestamp() * 1000]
        assert [ordering for ordering, _ in rows if ordering > place] == expected
    assert (await places.before([Shard(9999)], NOON))[Shard(9999)] == 0


@pytest.mark.parametrize("page", [3, 7, 200_000])
async def test_everything_since_a_time_lies_behind_the_place_though_clocks_were_set_back(
    journal: PostgresJournal,
    places: PostgresPositions,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    page: int,
) -> None:
    monkeypatch.setattr(dates, "PAGE", page)
    monkeypatch.setattr(places_module, "MOST_PASSED_OVER", 5)
    shard, offsets = await stored(journal, "a", 20)
    newest = offsets[-1] + 1
    # An hour ago for the first ten, then two hours ago for twenty, then a minute ago.
    ago = [3600] * 10 + [7200] * 20 + [60] * 10
    now = int(NOON.timestamp() * 1000)
    with connected(database) as connection:
        rows = connection.execute("select ordering from event_journal order by ordering").fetchall()
        for (ordering,), seconds in zip(rows, ago, strict=True):
            query = "update event_journal set write_timestamp = %s where ordering = %s"
            connection.execute(query, [now - 1000 * seconds, ordering])
        of_shard = connection.execute(
            "select ordering, write_timestamp from event_journal join event_tag on event_id = ordering "
            "where tag = %s order by ordering",
            [str(shard)],
        ).fetchall()
    for seconds in (8000, 7200, 7199, 4000, 3600, 3000, 60, 59):
        since = NOON - timedelta(seconds=seconds)
        place = (await places.before([shard], since))[shard]
        wanted = [int(str(o)) for o, written in of_shard if int(str(written)) >= now - 1000 * seconds]
        behind = [int(str(o)) for o, _ in of_shard if int(str(o)) > place]
        assert set(wanted) <= set(behind), seconds
        # No more than is behind the first of them, or than may be passed over.
        assert len(behind) <= len([o for o, _ in of_shard if wanted and int(str(o)) >= wanted[0]]) + 10
        if not wanted:
            assert place in (newest, newest - 1)


async def test_an_entitys_events_come_with_their_places(
    journal: PostgresJournal, places: PostgresPositions
) -> None:
    _, offsets = await stored(journal, "a", 4)
    events = await places.events_of(EntityId("a"), Revision(2), 2)
    assert [(event.offset, event.envelope.sequence_number) for event in events] == [
        (offsets[1], 2),
        (offsets[2], 3),
    ]
    assert await places.place_of(EntityId("a"), Revision(4)) == offsets[3]
    assert await places.place_of(EntityId("a"), Revision(5)) is None
    assert await places.place_of(EntityId("nul\0"), Revision(5)) is None
