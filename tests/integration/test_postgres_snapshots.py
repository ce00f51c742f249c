"""Snapshots, what is kept of them, and what is deleted of the journal: behind the back of commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import EntityId, Offset, Owner, ReadSideId, Revision, Shard
from cos_ray.domain.retention import Retention
from cos_ray.domain.shard_leases import LeaseRank
from cos_ray.domain.sharding import shard_of
from cos_ray.postgres import snapshots as module
from cos_ray.postgres.connections import Connections, OutOfStatementTime
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.read_side_stores import PostgresReadSideStores
from cos_ray.postgres.snapshots import Snapshots
from cos_ray.protocol.codec import meta_from_pb, pack
from cos_ray.protocol.pb.chief_of_state.v1.persistence_pb2 import StateWrapper
from tests.support.fixtures_postgres import connected
from tests.support.journal import SHARDS, append_of, until

AT_ONCE = timedelta(0)
TENTH = Retention(frequency=10, keep=2, delete_after=AT_ONCE)
DELETING = replace(TENTH, deletes_events=True)


@asynccontextmanager
async def journal_with(database: Database, retention: Retention) -> AsyncIterator[PostgresJournal]:
    journal = PostgresJournal(database, retention=retention)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def append(journal: PostgresJournal, entity: str, up_to: int, step: int = 1, after: int = 0) -> None:
    """Commands of `step` events each, until the entity is at `up_to`."""
    for expected in range(after, up_to, step):
        await journal.append(append_of(entity, expected, step))


def query(database: Database, text: str, *parameters: object) -> list[Any]:
    with connected(database) as connection:
        cursor = connection.execute(text.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def snapshots_of(database: Database, entity: str) -> list[int]:
    text = "select sequence_number from state_snapshot where persistence_id = %s order by 1"
    return [number for (number,) in query(database, text, entity)]


def events_of(database: Database, entity: str) -> list[int]:
    text = "select sequence_number from event_journal where persistence_id = %s order by 1"
    return [number for (number,) in query(database, text, entity)]


def save_offsets(database: Database, read_side: str, offsets: Mapping[Shard, Offset]) -> None:
    for shard, offset in offsets.items():
        query(
            database,
            "insert into read_side_offsets values (%s, %s, %s, 'SEQ', false, 1)",
            read_side,
            str(shard),
            str(offset),
        )


def newest_offset(database: Database) -> Offset:
    [(offset,)] = query(database, "select max(ordering) from event_journal")
    return Offset(offset)


async def test_a_snapshot_is_what_chief_of_state_would_have_written(database: Database) -> None:
    last = append_of("a", 9)
    before = time.time() * 1000 - 1
    async with journal_with(database, TENTH) as journal:
        await append(journal, "a", 9)
        await journal.append(last)
    [row] = query(
        database,
        "select persistence_id, sequence_number, created, snapshot_ser_id, snapshot_ser_manifest,"
        " snapshot_payload, meta_ser_id, meta_ser_manifest, meta_payload from state_snapshot",
    )
    assert row[:2] == ("a", 10)
    assert before <= row[2] <= time.time() * 1000 + 1
    assert row[3:5] == (5001, "chief_of_state.v1.StateWrapper")
    saved = StateWrapper.FromString(row[5])
    assert pack(saved.state) == last.envelopes[-1].resulting_state
    assert meta_from_pb(saved.meta) == last.envelopes[-1].meta
    assert row[6:] == (None, None, None)


async def test_every_tenth_event_leads_to_a_snapshot_and_the_newest_two_stay(database: Database) -> None:
    async with journal_with(database, TENTH) as journal:
        await append(journal, "a", 9)
        await append(journal, "b", 45)
    assert snapshots_of(database, "a") == []
    assert snapshots_of(database, "b") == [30, 40]
    assert events_of(database, "b") == list(range(1, 46))


async def test_a_command_that_passes_a_multiple_counts(database: Database) -> None:
    async with journal_with(database, TENTH) as journal:
        await append(journal, "a", 35, step=7)
    assert snapshots_of(database, "a") == [21, 35]


async def test_many_entities_at_once_get_each_its_snapshots(database: Database) -> None:
    async with journal_with(database, replace(TENTH, frequency=2, keep=1)) as journal:
        await asyncio.gather(*[append(journal, f"e{n}", 6) for n in range(100)])
    assert query(database, "select sequence_number, count(*) from state_snapshot group by 1") == [(6, 100)]


async def test_snapshots_that_chief_of_state_left_are_retained_by_the_same_rule(database: Database) -> None:
    for number in (3, 6, 9):
        query(
            database,
            "insert into state_snapshot values ('a', %s, 1, 5001, 'm', '', null, null, null)",
            number,
        )
    async with journal_with(database, TENTH) as journal:
        await append(journal, "a", 10)
    assert snapshots_of(database, "a") == [9, 10]


async def test_without_a_retention_nothing_is_saved(database: Database) -> None:
    journal = PostgresJournal(database)
    await journal.open()
    await append(journal, "a", 100, step=10)
    await journal.close()
    assert snapshots_of(database, "a") == []


async def test_a_command_neither_waits_for_its_snapshot_nor_fails_with_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with journal_with(database, TENTH) as journal:
        with connected(database) as other, other.transaction():
            other.execute("lock table state_snapshot in access exclusive mode")
            await append(journal, "a", 15)
            assert events_of(database, "a") == list(range(1, 16))
            # Until the statement gives up waiting for the lock.
            await until(lambda: _said(caplog, "snapshots not saved"))
        await append(journal, "a", 20, after=15)
    assert snapshots_of(database, "a") == [20]


async def test_when_too_many_snapshots_wait_the_oldest_are_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    snapshots = Snapshots(
        replace(TENTH, frequency=1), Connections(database, at_least=0, at_most=1, session={})
    )
    for name in ("a", "b", "c"):
        snapshots.note(append_of(name, 0))
    assert await _said(caplog, "snapshot given up")


async def test_large_states_are_saved_in_batches_of_their_own(database: Database) -> None:
    async with journal_with(database, replace(TENTH, frequency=1)) as journal:
        large = [append_of(f"e{n}", 0) for n in range(4)]
        for one in large:
            state = one.envelopes[0].resulting_state
            padded = replace(
                one.envelopes[0],
                resulting_state=type(state)(state + b"\x1a\x80\x80\xc0\x01" + b"." * 3 * 2**20),
            )
            await journal.append(replace(one, envelopes=(padded,)))
    assert query(database, "select count(*) from state_snapshot") == [(4,)]


class TestDeletion:
    async def test_where_deleting_many_takes_too_long_it_deletes_fewer_at_a_time(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain, asked = Connections.run, []

        async def run(self: Connections, query: Any, parameters: Any, *more: Any) -> Any:
            if isinstance(parameters, Mapping) and (most := parameters.get("most")) is not None:
                asked.append(most)
                if most > 3:
                    raise OutOfStatementTime("planted", is_cut=False)
            return await plain(self, query, parameters, *more)

        monkeypatch.setattr(Connections, "run", run)
        async with journal_with(database, DELETING) as journal:
            await append(journal, "a", 40)
            await until(lambda: _is(lambda: events_of(database, "a") == list(range(21, 41))))
        assert asked[:5] == [1000, 125, 15, 1, 2]

    async def test_keeps_the_events_that_the_kept_snapshots_span(self, database: Database) -> None:
        async with journal_with(database, DELETING) as journal:
            await append(journal, "a", 35)
            await until(lambda: _is(lambda: events_of(database, "a") == list(range(11, 36))))
            await append(journal, "b", 25)
        assert snapshots_of(database, "a") == [20, 30]
        assert events_of(database, "b") == list(range(1, 26))
        assert query(database, "select count(*) from event_tag") == [(50,)]

    async def test_spares_the_newest_event_and_what_no_snapshot_covers(self, database: Database) -> None:
        """Asked of the function itself: the service would not even ask."""
        async with journal_with(database, TENTH) as journal:
            await append(journal, "a", 10)
            await append(journal, "b", 15)
            await append(journal, "c", 5)
        assert self.delete(database, {"a": 100, "b": 100, "c": 100, "d": 100}) == 19
        assert events_of(database, "a") == [10]
        assert events_of(database, "b") == list(range(11, 16))
        assert events_of(database, "c") == list(range(1, 6))

    async def test_waits_for_every_configured_read_side(self, database: Database) -> None:
        async with journal_with(database, TENTH) as journal:
            await append(journal, "a", 40)
        shard = shard_of(EntityId("a"), SHARDS)
        seen = Offset(newest_offset(database) - 25)
        save_offsets(database, "ahead", {shard: newest_offset(database)})
        save_offsets(database, "behind", {shard: seen, Shard((shard + 1) % SHARDS): newest_offset(database)})
        assert self.delete(database, {"a": 20}, "ahead", "new") == 0
        assert self.delete(database, {"a": 20}, "ahead", "behind") == 15
        assert events_of(database, "a") == list(range(16, 41))
        query(database, "update read_side_offsets set current_offset = %s", str(newest_offset(database)))
        assert self.delete(database, {"a": 20}, "ahead", "behind") == 5

    async def test_leaves_no_hole_in_a_history(self, database: Database) -> None:
        """An entity whose first events carry a tag that no read side reads."""
        async with journal_with(database, TENTH) as journal:
            await append(journal, "a", 40)
        shard = shard_of(EntityId("a"), SHARDS)
        save_offsets(database, "r", {shard: newest_offset(database)})
        query(
            database,
            "update event_tag set tag = '-2' where event_id in"
            " (select ordering from event_journal where sequence_number between 5 and 6)",
        )
        assert self.delete(database, {"a": 20}, "r") == 4
        assert events_of(database, "a") == list(range(5, 41))

    async def test_of_a_long_history_goes_piece_by_piece(self, database: Database) -> None:
        async with journal_with(database, TENTH) as journal:
            await append(journal, "a", 40)
        assert [self.delete(database, {"a": 20}, most=8) for _ in range(4)] == [8, 8, 4, 0]

    async def test_comes_after_the_time_in_which_a_lost_command_may_be_asked_for(
        self, database: Database
    ) -> None:
        async with journal_with(database, replace(DELETING, delete_after=timedelta(hours=1))) as journal:
            await append(journal, "a", 50)
            await until(lambda: _is(lambda: snapshots_of(database, "a") == [40, 50]))
        assert events_of(database, "a") == list(range(1, 51))
        # Stopping forgets it; the next snapshot makes up for that.
        async with journal_with(database, DELETING) as journal:
            await append(journal, "a", 60, after=50)
            await until(lambda: _is(lambda: events_of(database, "a") == list(range(41, 61))))

    async def test_does_not_disturb_a_read_side_that_has_seen_the_events(self, database: Database) -> None:
        stores = PostgresReadSideStores(database)
        await stores.open()
        shard = shard_of(EntityId("a"), SHARDS)
        retention = replace(DELETING, read_sides=(ReadSideId("r"),))
        async with journal_with(database, retention) as journal:
            await append(journal, "a", 30)
            seen = (await journal.after(shard, Offset(0), 20))[-1].offset
            assert len(events_of(database, "a")) == 30
            await stores.controls.take(
                ReadSideId("r"), [shard], Owner("r"), LeaseRank(1, True, 1), timedelta(hours=1)
            )
            assert await stores.offsets.save(ReadSideId("r"), {shard: seen}, Owner("r")) == set()
            await append(journal, "a", 40, after=30)
            await until(lambda: _is(lambda: events_of(database, "a") == list(range(21, 41))))
            rest = await journal.after(shard, seen, 100)
            assert [event.envelope.sequence_number for event in rest] == list(range(21, 41))
            newest = await journal.newest(EntityId("a"))
            assert newest is not None
            assert newest.sequence_number == Revision(40)
        await stores.close()

    def delete(
        self, database: Database, up_tos: Mapping[str, int], *read_sides: str, most: int = 1000
    ) -> int:
        [(deleted,)] = query(
            database,
            "select cos_delete_events(%s::text[], %s::bigint[], %s::text[], %s)",
            list(up_tos),
            list(up_tos.values()),
            list(read_sides),
            most,
        )
        return int(deleted)


async def test_of_an_event_that_the_journal_has_lost_no_state_is_saved(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    """After a failover another event may have its number; Chief of State would begin with that state."""
    lost, kept, other = (append_of(name, 0, events=10) for name in ("a", "a", "b"))
    await postgres_journal.append(kept)
    await postgres_journal.append(other)
    connections = Connections(database, at_least=0, at_most=1, session={})
    await connections.open()
    snapshots = Snapshots(TENTH, connections)
    snapshots.start()
    for append in (lost, other):
        snapshots.note(append)
    await snapshots.close()
    await connections.close()
    assert snapshots_of(database, "b") == [10]
    assert snapshots_of(database, "a") == []


async def test_a_journal_out_of_reach_costs_snapshots_and_nothing_else(
    database: Database, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    connections = Connections(replace(database, port=unused_tcp_port), at_least=0, at_most=1, session={})
    snapshots = Snapshots(replace(TENTH, frequency=1), connections)
    snapshots.start()
    snapshots.note(append_of("a", 0))
    await until(lambda: _said(caplog, "snapshots not saved"))
    await snapshots.close()
    with pytest.raises(JournalUnavailable):
        await connections.run("select 1", ())


async def _is(fact: Any) -> bool:
    return bool(fact())


async def _said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in record.message for record in caplog.records)
