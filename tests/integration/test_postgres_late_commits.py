"""
Commits that outlast their command, on a server whose synchronous standby is away: what clients are told.

No statement's time limit ends such a commit. The connection may be gone and the command answered long
before it lands, and nobody sees its events until then.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import psycopg
import pytest

from cos_ray.domain.errors import OUTCOME_UNKNOWN, Code, KeyKnown, Status
from cos_ray.domain.ids import CommandId, EntityId, IdempotencyKey, Offset, Shard
from cos_ray.domain.messages import Accepted, Append, Command, Packed, Refused
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from cos_ray.system.clock import SystemClock
from cos_ray.writeside.entity import Entity
from tests.support.journal import until
from tests.support.tcp_proxy import Cut, TcpProxy
from tests.unit.test_late_appends import EXPIRED, TOO_LITTLE, Purse, accepted

serials = count(1)


class Standby:
    """The server's synchronous standby; while it is away, no commit returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def goes(self) -> None:
        self._set("absent")

    def returns(self) -> None:
        """As good as: the server is told to do without."""
        self._set("")

    def _set(self, names: str) -> None:
        with psycopg.connect(**self._database.connect_arguments()) as session:
            session.execute(f"alter system set synchronous_standby_names = '{names}'".encode())
            session.execute("select pg_reload_conf()")

    async def is_waited_for(self) -> bool:
        """Whether a commit waits for it."""
        with psycopg.connect(**self._database.connect_arguments()) as session:
            waiting = session.execute("select 1 from pg_stat_activity where wait_event = 'SyncRep'")
            return waiting.fetchone() is not None


@pytest.fixture(scope="module")
def own_server() -> Iterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="cos-ray-tests-"))
    server = EmbeddedPostgres(folder / "postgres")
    try:
        database = server.start()
        migrate(database)
        yield database
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def standby(own_server: Database) -> Iterator[Standby]:
    standby = Standby(own_server)
    yield standby
    standby.returns()


@pytest.fixture
async def own_journal(
    own_server: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PostgresJournal]:
    # Appends are given up sooner than in life; the commits go on all the same.
    monkeypatch.setattr("cos_ray.postgres.writer.CALL_LIMIT", timedelta(seconds=1))
    journal = PostgresJournal(own_server, settle_within=timedelta(seconds=1))
    await journal.open()
    yield journal
    await journal.close()


def entity_of(journal: PostgresJournal, handler: Purse | None = None) -> Entity:
    entity_id = EntityId(f"purse-{next(serials)}")
    return Entity(entity_id, Shard(0), handler or Purse(), journal, SystemClock())


def command(entity: Entity, amount: int, budget: float, key: str | None = None) -> Command:
    return Command(
        entity._entity_id,
        Packed(str(amount).encode()),
        CommandId(f"late-commit-{next(serials)}"),
        budget,
        key=None if key is None else IdempotencyKey(key),
    )


@pytest.mark.parametrize("budget", [0.5, 5.0])
async def test_a_commit_that_outlasts_its_command_is_in_every_answer_from_when_it_is_seen(
    own_journal: PostgresJournal, standby: Standby, budget: float
) -> None:
    one = entity_of(own_journal)
    assert accepted(await one.process(command(one, 0, 5.0))) == (0, 0)
    standby.goes()
    # Given up by the command's own time, or by the writer's.
    assert await one.process(command(one, 3, budget)) == Refused(OUTCOME_UNKNOWN)
    assert await standby.is_waited_for()
    # Nobody sees it yet, so nobody is told of it.
    assert accepted(await one.process(command(one, 0, 5.0))) == (0, 0)
    assert await one.process(command(one, -2, 5.0)) == Refused(TOO_LITTLE)
    standby.returns()

    async def is_seen() -> bool:
        return await own_journal.newest(one._entity_id) is not None

    await until(is_seen)
    assert accepted(await one.process(command(one, 0, 5.0))) == (3, 3)
    assert accepted(await one.process(command(one, -2, 5.0))) == (1, 4)


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_command_whose_commit_hangs_is_not_said_to_be_refused(
    own_journal: PostgresJournal, standby: Standby, key: str | None
) -> None:
    handler = Purse()
    one = entity_of(own_journal, handler)
    standby.goes()
    # When it is run again, on the same state, the handler decides otherwise: an offer expires, say.
    handler.refuses.extend([None, EXPIRED])
    asked = command(one, 3, 40.0, key)
    assert await one.process(asked) == Refused(OUTCOME_UNKNOWN)
    assert not handler.refuses
    assert await standby.is_waited_for()
    standby.returns()
    again = await one.process(replace(asked, maybe_stored=True))
    assert accepted(again) == (3, 3)


async def test_an_append_that_landed_and_cannot_be_read_is_not_said_to_be_stored_nowhere(
    own_server: Database,
) -> None:
    async with TcpProxy(own_server.port) as proxy:

        class GoesAway(PostgresJournal):
            """Is out of reach from when it was told that it knows a key."""

            async def append(self, append: Append) -> Offset:
                try:
                    return await super().append(append)
                except KeyKnown:
                    proxy.refuses = True
                    proxy.cut_all()
                    raise

        journal = GoesAway(replace(own_server, port=proxy.port))
        await journal.open()
        one = entity_of(journal)
        await one.process(command(one, 1, 5.0, "first"))
        proxy.cuts.append(Cut.BEFORE_THE_REPLY)
        asked = command(one, 3, 5.0, "k")
        assert await one.process(asked) == Refused(OUTCOME_UNKNOWN)
        # The client asks again while the journal is away: it is told nothing that is not known.
        reply = await one.process(asked)
        assert reply == Refused(
            Status(Code.UNAVAILABLE, "the journal is unavailable; nothing was stored by this call")
        )
        proxy.refuses = False

        async def is_there() -> bool:
            return isinstance(await one.process(asked), Accepted)

        await until(is_there)
        assert accepted(await one.process(asked)) == (4, 4)
        await asyncio.wait_for(journal.close(), 20)
