"""An append whose fate is in doubt: it gets a true answer, or within bounds the word that nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cos_ray.domain.errors import JournalUnavailable, OutcomeUnknown, RevisionConflict
from cos_ray.domain.ids import EntityId, Offset, Shard
from cos_ray.domain.messages import Append
from cos_ray.postgres import database as postgres_database
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.testing.history import faults_of_history
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, read_all, until
from tests.support.tcp_proxy import Cut, TcpProxy
from tests.support.writers import Writers

_examples = count(1)


@pytest.fixture
def session(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with connected(database) as connection:
        yield connection


async def test_an_append_that_is_cut_off_while_the_server_works_on_it_is_there_once(
    journal: PostgresJournal, proxy: TcpProxy, session: psycopg.Connection[Any]
) -> None:
    append = append_of("a", 0, events=3)
    session.execute("begin")
    session.execute("select cos_lock_shards(%s)", [[append.shard]])
    asked = asyncio.create_task(journal.append(append))
    await until(lambda: waits_for(session, 1))
    proxy.cut_all()
    # The lost one still waits, and now also the one by which it is asked about.
    await until(lambda: waits_for(session, 2))
    session.execute("commit")
    offset = await asked
    events = [e for e in await read_all(journal) if e.envelope.meta.entity_id == "a"]
    assert [event.envelope for event in events] == list(append.envelopes)
    assert events[-1].offset == offset


async def test_an_append_that_is_cut_off_and_overtaken_meanwhile_is_a_conflict(
    journal: PostgresJournal,
    proxy: TcpProxy,
    database: Database,
    session: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append, other = append_of("a", 0), append_of("a", 0)
    # The rival waits for as long as the other takes to be cut off and to come back.
    monkeypatch.setattr(postgres_database, "LOCK_TIMEOUT", timedelta(seconds=30))
    monkeypatch.setattr(postgres_database, "STATEMENT_TIMEOUT", timedelta(seconds=30))
    rival = PostgresJournal(database)
    await rival.open()
    session.execute("begin")
    session.execute("select cos_lock_shards(%s)", [[append.shard]])
    overtakes = asyncio.create_task(rival.append(other))
    await until(lambda: waits_for(session, 1))
    asked = asyncio.create_task(journal.append(append))
    await until(lambda: waits_for(session, 2))
    proxy.cut_all()
    await until(lambda: waits_for(session, 3))
    session.execute("commit")
    await overtakes
    with pytest.raises(RevisionConflict):
        await asked
    assert await journal.newest(EntityId("a")) == other.envelopes[-1]
    await rival.close()


@pytest.mark.parametrize("thaws", [True, False])
async def test_on_a_frozen_wire_an_append_is_answered_within_bounds_and_never_stored_twice(
    journal: PostgresJournal,
    proxy: TcpProxy,
    thaws: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("cos_ray.postgres.writer.CALL_LIMIT", timedelta(seconds=1))
    append = append_of("a", 0)
    proxy.freeze()
    asked = asyncio.create_task(journal.append(append))
    if thaws:
        await until(lambda: has_lost(caplog, 1))
        proxy.thaw()
        await asked
    else:
        with pytest.raises(OutcomeUnknown):
            await asked
        # In the end everything comes through, the first call, too.
        proxy.thaw()
    await until(lambda: answers(journal))
    assert await journal.append(append) > 0
    events = [e.envelope for e in await read_all(journal) if e.envelope.meta.entity_id == "a"]
    assert events == list(append.envelopes)


async def test_on_a_frozen_wire_reading_is_answered_within_bounds_and_works_again_afterwards(
    journal: PostgresJournal, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cos_ray.postgres.connections.CALL_LIMIT", timedelta(seconds=1))
    assert await journal.newest(EntityId("first-1")) is not None
    proxy.freeze()
    for question in (journal.newest(EntityId("first-1")), journal.after(Shard(0), Offset(0), 1)):
        with pytest.raises(JournalUnavailable):
            await question
    proxy.thaw()
    await until(lambda: answers(journal))
    assert await journal.newest(EntityId("first-1")) is not None


async def test_writers_get_through_a_wire_that_freezes_for_a_while(
    journal: PostgresJournal,
    proxy: TcpProxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("cos_ray.postgres.writer.CALL_LIMIT", timedelta(seconds=1))
    async with Writers(journal) as writers:
        for times in (1, 2):
            proxy.freeze()
            await until(partial(has_lost, caplog, times))
            proxy.thaw()
            await writers.get_on()
    assert await writers.faults(journal) == []


async def test_writers_get_on_over_a_wire_that_is_slow_by_200_ms_and_cut_at_times(
    journal: PostgresJournal, proxy: TcpProxy
) -> None:
    proxy.delay = 0.2
    async with Writers(journal) as writers:
        for cut in Cut:
            proxy.cuts.append(cut)
            await writers.get_on()
    assert proxy.calls_cut == len(Cut)
    assert writers.denied == []
    assert await writers.faults(journal) == []


class Crowd:
    """Writers who do not know of each other, over a few entities, and what they were told."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.acknowledged: list[tuple[Append, Offset]] = []
        self.denied: list[Append] = []
        self.in_doubt: list[Append] = []

    async def write(self, journal: PostgresJournal, steps: list[tuple[int, int]]) -> None:
        """Go through the steps: which entity, and how many events."""
        for entity, events in steps:
            name = self._names[entity % len(self._names)]
            try:
                newest = await journal.newest(EntityId(name))
                append = append_of(name, newest.sequence_number if newest else 0, events)
            except JournalUnavailable:
                continue
            try:
                self.acknowledged.append((append, await journal.append(append)))
            except (RevisionConflict, JournalUnavailable):
                self.denied.append(append)
            except OutcomeUnknown:
                self.in_doubt.append(append)

    async def settle(self, journal: PostgresJournal) -> None:
        """Ask again for what is in doubt; what is not there by now is overtaken or lands now."""
        for append in self.in_doubt:
            try:
                self.acknowledged.append((append, await journal.append(append)))
            except RevisionConflict:
                self.denied.append(append)


STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=8)
CUTS = st.lists(st.sampled_from([*Cut, "all", "refuse"]), max_size=6)


@settings(
    max_examples=10,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(writers=st.lists(STEPS, min_size=2, max_size=5), cuts=CUTS, settle=st.sampled_from([0.05, 5.0]))
async def test_whatever_is_cut_several_writers_leave_a_whole_history_and_know_it(
    database: Database, writers: list[list[tuple[int, int]]], cuts: list[Cut | str], settle: float
) -> None:
    names = [f"{next(_examples)}-{n}" for n in range(3)]
    async with TcpProxy(database.port) as proxy:
        far = replace(database, port=proxy.port)
        journals = [PostgresJournal(far, settle_within=timedelta(seconds=settle)) for _ in range(2)]
        for journal in journals:
            await journal.open()
        crowd = Crowd(names)

        async def sabotage() -> None:
            for cut in cuts:
                await asyncio.sleep(0.005)
                proxy.refuses = cut == "refuse"
                if isinstance(cut, Cut):
                    proxy.cuts.append(cut)
                else:
                    proxy.cut_all()
            await asyncio.sleep(0.005)
            proxy.refuses = False
            proxy.cuts.clear()

        await asyncio.gather(
            sabotage(), *[crowd.write(journals[n % 2], steps) for n, steps in enumerate(writers)]
        )
        await until(lambda: answers(journals[0]))
        await crowd.settle(journals[0])
        history = [e for e in await read_all(journals[0]) if e.envelope.meta.entity_id in names]
        for journal in journals:
            await journal.close()
    assert faults_of_history(history, crowd.acknowledged, crowd.denied) == []
    assert len(history) == sum(len(append.envelopes) for append, _ in crowd.acknowledged)


async def waits_for(session: psycopg.Connection[Any], backends: int) -> bool:
    """Whether so many backends wait for a lock of this session's, or behind one that does."""
    found = session.execute(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    ).fetchone()
    return found is not None and found[0] >= backends


async def answers(journal: PostgresJournal) -> bool:
    """Whether it can be asked."""
    try:
        await journal.check()
    except JournalUnavailable:
        return False
    return True


async def has_lost(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    """Whether so many appends' connections have been given up."""
    return caplog.messages.count("connection lost during an append") >= times
