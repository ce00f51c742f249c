"""Connections that break during an append, and servers that go away: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cos_ray.domain.errors import JournalUnavailable, OutcomeUnknown, RevisionConflict
from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.domain.messages import Append
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.testing.history import faults_of_history
from tests.support.fixtures_postgres import connected
from tests.support.journal import Condition, append_of, read_all, until
from tests.support.tcp_proxy import Cut, TcpProxy


@pytest.mark.parametrize("cut", list(Cut))
async def test_an_append_whose_connection_breaks_is_settled_and_there_once(
    journal: PostgresJournal, proxy: TcpProxy, cut: Cut
) -> None:
    append = append_of("a", 0, events=3)
    proxy.cuts.append(cut)
    offset = await journal.append(append)
    assert proxy.calls_cut == 1
    events = [e for e in await read_all(journal) if e.envelope.meta.entity_id == "a"]
    assert [event.envelope for event in events] == list(append.envelopes)
    assert events[-1].offset == offset


async def test_a_lost_append_that_another_writer_forestalled_is_a_conflict(
    journal: PostgresJournal, postgres_journal: PostgresJournal, proxy: TcpProxy
) -> None:
    await postgres_journal.append(append_of("a", 0))
    proxy.cuts.append(Cut.BEFORE_THE_REPLY)
    with pytest.raises(RevisionConflict):
        await journal.append(append_of("a", 0))
    assert proxy.calls_cut == 1


async def test_many_cuts_among_many_writers_leave_a_whole_history(
    journal: PostgresJournal, proxy: TcpProxy
) -> None:
    rng = random.Random(7)
    acknowledged: list[tuple[Append, Offset]] = []

    async def write(name: str) -> None:
        at = 0
        for _ in range(15):
            append = append_of(name, at, events=rng.randint(1, 2))
            acknowledged.append((append, await journal.append(append)))
            at += len(append.envelopes)

    async def sabotage() -> None:
        for _ in range(12):
            seen = len(acknowledged)
            proxy.cuts.append(rng.choice(list(Cut)))
            await until(_grown(acknowledged, seen + rng.randint(1, 10)))

    writers = asyncio.gather(*[write(f"e{n}") for n in range(20)])
    saboteur = asyncio.create_task(sabotage())
    await writers
    saboteur.cancel()
    assert proxy.calls_cut > 5
    history = [e for e in await read_all(journal) if e.envelope.meta.entity_id.startswith("e")]
    assert faults_of_history(history, acknowledged) == []
    assert len(history) == sum(len(append.envelopes) for append, _ in acknowledged)


@pytest.mark.parametrize("cut", list(Cut))
async def test_what_cannot_be_settled_in_time_is_unknown_and_can_be_asked_about_later(
    database: Database, proxy: TcpProxy, cut: Cut
) -> None:
    journal = PostgresJournal(replace(database, port=proxy.port), settle_within=timedelta(seconds=0.3))
    await journal.open()
    await asyncio.gather(*[journal.append(append_of(f"first-{n}", 0)) for n in range(10)])
    append = append_of("a", 0)
    proxy.cuts.append(cut)
    proxy.refuses = True
    with pytest.raises(OutcomeUnknown):
        await journal.append(append)
    proxy.refuses = False
    await until(_answers(journal))
    stored = await journal.stored_by(append.entity_id, append.command_id)
    assert (stored == append.envelopes[-1]) is (cut is Cut.BEFORE_THE_REPLY)
    await journal.append(append)
    await journal.close()


async def test_without_a_connection_an_append_is_known_not_to_be_stored(
    journal: PostgresJournal, proxy: TcpProxy
) -> None:
    proxy.refuses = True
    proxy.cut_all()
    with pytest.raises(JournalUnavailable):
        await journal.append(append_of("a", 0))
    with pytest.raises(JournalUnavailable):
        await journal.newest(EntityId("a"))
    proxy.refuses = False
    await until(_answers(journal))
    assert await journal.newest(EntityId("a")) is None
    await journal.append(append_of("a", 0))


async def test_an_append_that_breaks_the_server_takes_no_other_with_it(
    database: Database, proxy: TcpProxy
) -> None:
    journal = PostgresJournal(replace(database, port=proxy.port), settle_within=timedelta(seconds=1))
    await journal.open()
    proxy.is_poisonous = lambda data: b"poison" in data
    appends = [append_of(f"e{n}", 0) for n in range(20)] + [append_of("bad", 0, command="poison")]
    *answers, bad = await asyncio.gather(*map(journal.append, appends), return_exceptions=True)
    assert all(isinstance(answer, int) for answer in answers), answers
    assert isinstance(bad, OutcomeUnknown)
    assert proxy.calls_cut > 1
    assert len(await read_all(journal)) == 20
    await journal.close()


async def test_idle_connections_that_the_server_closed_are_not_used(
    database: Database, journal: PostgresJournal
) -> None:
    with connected(database) as observer:
        observer.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = 'cos_ray' and pid <> pg_backend_pid()"
        )
    await asyncio.gather(*[journal.append(append_of(f"e{n}", 0)) for n in range(20)])
    await asyncio.gather(*[journal.after(Shard(n % 4), Offset(0), 1) for n in range(20)])
    assert await journal.newest(EntityId("e1")) is not None


async def test_a_server_that_takes_no_writes_is_left_for_one_that_does(
    database: Database, postgres_journal: PostgresJournal
) -> None:
    await postgres_journal.append(append_of("a", 0))
    with connected(database) as owner:
        owner.execute("alter role postgres set default_transaction_read_only = on")
        try:
            owner.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where application_name = 'cos_ray' and pid <> pg_backend_pid()"
            )
            with pytest.raises(JournalUnavailable):
                await postgres_journal.append(append_of("a", 1))
        finally:
            owner.execute("set default_transaction_read_only = off")
            owner.execute("alter role postgres reset default_transaction_read_only")
    await postgres_journal.append(append_of("a", 1))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[tuple[Database, Path]]:
    """A server that may be mistreated, and its data folder."""
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        yield server.start(), tmp_path / "postgres" / "data"
    finally:
        server.stop()


async def test_a_server_that_is_shot_under_load_loses_nothing_that_was_acknowledged(
    own_server: tuple[Database, Path],
) -> None:
    database, data = own_server
    migrate(database)
    journal = PostgresJournal(database)
    await journal.open()
    acknowledged: list[tuple[Append, Offset]] = []
    denied: list[Append] = []
    finish = asyncio.Event()

    async def write(name: str) -> None:
        at = 0
        while not finish.is_set():
            append = append_of(name, at, events=1 + at % 3)
            while True:
                try:
                    acknowledged.append((append, await journal.append(append)))
                    break
                except JournalUnavailable:
                    # It is not stored: another may take its place, and would conflict if it were.
                    denied.append(append)
                    append = append_of(name, at, events=1 + at % 3)
                except OutcomeUnknown:
                    # Asking again for the same is always safe.
                    continue
            at += len(append.envelopes)

    writers = [asyncio.create_task(write(f"e{n}")) for n in range(30)]
    for sign in (signal.SIGQUIT, signal.SIGKILL):
        await until(_grown(acknowledged, len(acknowledged) + 200), within=40)
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, sign)
        await until(_is_gone(pid))
    # It came back by itself, and so did we.
    await until(_grown(acknowledged, len(acknowledged) + 200), within=40)
    finish.set()
    await asyncio.gather(*writers)
    history = await read_all(journal, page=1000)
    assert faults_of_history(history, acknowledged, denied) == []
    assert len(history) == sum(len(append.envelopes) for append, _ in acknowledged)
    await journal.close()


def _grown(acknowledged: list[tuple[Append, Offset]], size: int) -> Condition:
    async def condition() -> bool:
        return len(acknowledged) >= size

    return condition


def _answers(journal: PostgresJournal) -> Condition:
    async def condition() -> bool:
        try:
            await journal.check()
        except JournalUnavailable:
            return False
        return True

    return condition


def _is_gone(pid: int) -> Condition:
    async def condition() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return condition
