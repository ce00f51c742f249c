"""The append function, as SQL: what it writes, in which order, and what it keeps apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from cos_ray.domain.errors import EventRefused, JournalUnavailable, RevisionConflict
from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.rows import columns, encode
from cos_ray.postgres.statements import statement
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, read_all, until

Row = tuple[Any, ...]


@pytest.fixture
def session(database: Database) -> Iterator[psycopg.Connection[Row]]:
    with connected(database) as connection:
        yield connection


def call(session: psycopg.Connection[Row], *appends: Any) -> list[Row]:
    """Run the function on these appends, in one call."""
    return session.execute(statement("append"), columns([encode(append) for append in appends])).fetchall()


async def test_a_row_is_what_chief_of_state_would_have_written(
    postgres_journal: PostgresJournal, session: psycopg.Connection[Row]
) -> None:
    append = append_of("a", 0, events=2, command="the command")
    before = time.time() * 1000 - 1
    offset = await postgres_journal.append(append)
    rows = session.execute(
        "select persistence_id, sequence_number, deleted, writer, adapter_manifest, event_ser_id,"
        " event_ser_manifest, event_payload, meta_ser_id, meta_ser_manifest, meta_payload"
        " from event_journal order by ordering"
    ).fetchall()
    manifest = "chief_of_state.v1.EventWrapper"
    payloads = encode(append).payloads
    assert rows == [
        ("a", number, False, "the command", "", 5001, manifest, payloads[number - 1], None, None, None)
        for number in (1, 2)
    ]
    stamps = session.execute("select write_timestamp from event_journal").fetchall()
    assert all(before <= stamp <= time.time() * 1000 + 1 for (stamp,) in stamps)
    tags = session.execute("select event_id, tag from event_tag order by event_id").fetchall()
    assert tags == [(offset - 1, str(append.shard)), (offset, str(append.shard))]


def test_a_conflict_and_a_repetition_do_not_fail_their_neighbours(session: psycopg.Connection[Row]) -> None:
    stored, longer = append_of("stored", 0, events=2), append_of("longer", 0)
    call(session, stored, longer)
    answers = call(session, append_of("new", 0, 3), append_of("longer", 0), stored, append_of("longest", 4))
    assert answers == [("L", 6), ("C", None), ("A", 2), ("C", None)]
    assert session.execute("select count(*) from event_journal").fetchone() == (6,)
    assert session.execute("select count(*) from event_tag").fetchone() == (6,)


def test_offsets_are_given_in_the_order_of_the_batch(session: psycopg.Connection[Row]) -> None:
    names = [f"e{n * 37 % 100}" for n in range(100)]
    call(session, *[append_of(name, 0, events=1 + n % 3) for n, name in enumerate(names)])
    rows = session.execute("select persistence_id, sequence_number from event_journal order by ordering")
    assert rows.fetchall() == [(name, k) for n, name in enumerate(names) for k in range(1, 2 + n % 3)]


def test_of_two_multi_event_appends_from_two_sessions_one_lands_whole(
    database: Database, session: psycopg.Connection[Row]
) -> None:
    ours, theirs = append_of("a", 0, events=3), append_of("a", 0, events=2)
    with connected(database) as other:
        session.execute("begin")
        assert call(session, ours) == [("L", 3)]
        other.execute("set lock_timeout = 50")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            call(other, theirs)
        session.execute("commit")
        assert call(other, theirs) == [("C", None)]
        assert call(other, ours) == [("A", 3)]


def test_a_row_that_came_past_the_locks_makes_a_conflict_and_not_half_an_append(
    database: Database, session: psycopg.Connection[Row]
) -> None:
    intruder = (
        "insert into event_journal (persistence_id, sequence_number, writer, event_ser_id,"
        " event_ser_manifest, event_payload) values ('a', 2, 'w', 5001, 'm', '')"
    )
    with connected(database) as other:
        other.execute("begin")
        other.execute(intruder)
        # Its row is not visible, and its key is taken: the insert waits for it and skips.
        session.execute("set lock_timeout = 0")
        session.pgconn.send_query_params(
            _positional(statement("append")), [_literal(c) for c in columns([encode(append_of("a", 0, 2))])]
        )
        _wait_until_blocked(other, session.info.backend_pid)
        other.execute("commit")
    results = []
    while (result := session.pgconn.get_result()) is not None:
        results.append(result)
    assert b"landed in part" in results[-1].error_message
    assert session.execute("select sequence_number from event_journal").fetchall() == [(2,)]


def test_the_function_refuses_an_isolation_level_under_which_it_would_not_see(
    session: psycopg.Connection[Row],
) -> None:
    session.execute("begin isolation level repeatable read")
    with pytest.raises(psycopg.errors.RaiseException):
        call(session, append_of("a", 0))


async def test_a_reader_never_skips_an_append_whose_transaction_is_still_open(
    postgres_journal: PostgresJournal, session: psycopg.Connection[Row]
) -> None:
    shard = Shard(1)
    names = [f"e{n}" for n in range(100)]
    same = [name for name in names if append_of(name, 0).shard == shard]
    elsewhere = next(name for name in names if append_of(name, 0).shard != shard)
    session.execute("begin")
    [(_, first)] = call(session, append_of(same[0], 0))
    waiting = asyncio.create_task(postgres_journal.append(append_of(same[1], 0)))

    async def is_blocked() -> bool:
        return bool(session.execute("select from pg_locks where not granted").fetchall())

    await until(is_blocked)
    other = await postgres_journal.append(append_of(elsewhere, 0))
    assert other > first
    assert await postgres_journal.after(shard, Offset(0), 10) == []
    assert not waiting.done()
    session.execute("commit")
    second = await waiting
    assert second > first
    events = await postgres_journal.after(shard, Offset(0), 10)
    assert [event.offset for event in events] == [first, second]


async def test_a_lock_that_is_not_released_means_not_stored(
    postgres_journal: PostgresJournal, session: psycopg.Connection[Row]
) -> None:
    append = append_of("a", 0)
    session.execute("begin")
    session.execute("select cos_lock_shards(%s)", [[append.shard]])
    with pytest.raises(JournalUnavailable, match="lock timeout"):
        await postgres_journal.append(append)
    session.execute("rollback")
    assert await read_all(postgres_journal) == []
    await postgres_journal.append(append)


async def test_one_bad_row_does_not_fail_its_neighbours(postgres_journal: PostgresJournal) -> None:
    await postgres_journal.append(append_of("taken", 0))
    appends = {name: append_of(name, 0) for name in (f"e{n}" for n in range(40))}
    appends["taken"] = append_of("taken", 0)
    # Only Postgres finds out about this one: the writer's column is too short for it.
    appends["bad"] = append_of("bad", 0, command="x" * 256)
    answers = await asyncio.gather(*map(postgres_journal.append, appends.values()), return_exceptions=True)
    told = dict(zip(appends, answers, strict=True))
    assert isinstance(told.pop("bad"), EventRefused)
    assert isinstance(told.pop("taken"), RevisionConflict)
    assert all(isinstance(answer, int) for answer in told.values()), told
    assert len(await read_all(postgres_journal)) == 41
    assert await postgres_journal.newest(EntityId("bad")) is None


async def test_an_oversized_append_is_refused_alone_and_a_large_one_is_not(database: Database) -> None:
    journal = PostgresJournal(database, largest_append=9_000_000)
    await journal.open()
    large, oversized = append_of("large", 0, padding=8_000_000), append_of("oversized", 0, padding=9_000_000)
    neighbours = [append_of(f"e{n}", 0) for n in range(20)]
    answers = await asyncio.gather(
        *map(journal.append, [*neighbours, large, oversized, *[append_of("later", 0)]]),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers if not isinstance(answer, int)] == [EventRefused]
    assert await journal.newest(EntityId("large")) == large.envelopes[-1]
    assert await journal.newest(EntityId("oversized")) is None
    await journal.close()


async def test_closing_stores_what_was_accepted(database: Database) -> None:
    journal = PostgresJournal(database)
    await journal.open()
    tasks = [asyncio.create_task(journal.append(append_of(f"e{n}", 0))) for n in range(500)]
    await asyncio.sleep(0)
    await journal.close()
    assert all(isinstance(offset, int) for offset in await asyncio.gather(*tasks))
    with pytest.raises(JournalUnavailable):
        await journal.append(append_of("late", 0))
    with pytest.raises(JournalUnavailable):
        await journal.newest(EntityId("late"))


async def test_no_more_connections_are_used_than_allowed(
    database: Database, session: psycopg.Connection[Row]
) -> None:
    clients = "select pid from pg_stat_activity where application_name = 'cos_ray'"
    before = set(session.execute(clients).fetchall())
    journal = PostgresJournal(database)
    await journal.open()
    await asyncio.gather(
        *[journal.append(append_of(f"e{n}", 0)) for n in range(200)],
        *[journal.after(Shard(n % 4), Offset(0), 10) for n in range(200)],
    )
    ours = set(session.execute(clients).fetchall()) - before
    assert 1 < len(ours) <= database.pool_max_size
    await journal.close()


def _positional(query: str) -> bytes:
    for number in range(1, 8):
        query = query.replace("%b", f"${number}", 1)
    return query.encode()


def _literal(column: list[object]) -> bytes:
    words = ['"\\\\x' + item.hex() + '"' if isinstance(item, bytes) else f'"{item}"' for item in column]
    return ("{" + ",".join(words) + "}").encode()


def _wait_until_blocked(observer: psycopg.Connection[Row], pid: int) -> None:
    deadline = time.monotonic() + 10
    while observer.execute("select pg_blocking_pids(%s)", [pid]).fetchone() == ([],):
        assert time.monotonic() < deadline
        time.sleep(0.005)
