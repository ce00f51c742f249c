"""Everything that befalls a Postgres, under writers that go on: nothing is lost, and nobody is told wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import EntityId
from cos_ray.postgres.database import Database
from cos_ray.postgres.embedded.server import EmbeddedPostgres
from cos_ray.postgres.group_commit import BatchLimits
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.migrations import migrate
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, until
from tests.support.writers import Writers

Session = psycopg.Connection[Any]


class OwnServer:
    """A server that may be mistreated."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self._server = EmbeddedPostgres(folder)
        self.database = self._server.start()
        migrate(self.database)

    def stop(self) -> None:
        self._server.stop()

    async def end(self, sign: signal.Signals) -> None:
        """Make it stop, and see it gone; its coordinator starts it again."""
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, sign)

        async def is_gone() -> bool:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return False

        await until(is_gone)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    server = OwnServer(tmp_path / "postgres")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def own_journal(own_server: OwnServer) -> AsyncIterator[PostgresJournal]:
    journal = PostgresJournal(own_server.database)
    await journal.open()
    yield journal
    await journal.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with connected(database) as connection:
        yield connection


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_a_restart_loses_nothing(
    own_server: OwnServer, own_journal: PostgresJournal, sign: signal.Signals
) -> None:
    async with Writers(own_journal) as writers:
        for _ in range(2):
            await own_server.end(sign)
            await writers.get_on()
    assert await writers.faults(own_journal) == []


async def test_terminated_backends_lose_nothing_and_turn_nobody_away(
    postgres_journal: PostgresJournal, session: Session
) -> None:
    async with Writers(postgres_journal) as writers:
        for _ in range(5):
            terminate_all(session)
            await writers.get_on()
    assert writers.denied == []
    assert await writers.faults(postgres_journal) == []


async def test_too_many_connections_turn_appends_away_until_there_are_fewer(
    own_server: OwnServer, own_journal: PostgresJournal
) -> None:
    with connected(own_server.database) as owner:
        owner.execute(
            "create role modest login password 'modest' in role pg_read_all_data, pg_write_all_data"
        )
        owner.execute("grant all on all sequences in schema public to modest")
    modest = replace(own_server.database, user="modest", password="modest")
    journal = PostgresJournal(modest)
    await journal.open()
    async with Writers(journal) as writers:
        with connected(own_server.database) as owner:
            owner.execute("alter role modest connection limit 0")
            terminate_all(owner, "modest")
            await writers.are_turned_away()
            owner.execute("alter role modest connection limit -1")
        await writers.get_on()
    assert await writers.faults(journal) == []
    await journal.close()


async def test_while_the_database_is_read_only_appends_are_turned_away(
    own_server: OwnServer, own_journal: PostgresJournal
) -> None:
    async with Writers(own_journal) as writers:
        with connected(own_server.database) as owner:
            set_and_reload(owner, "default_transaction_read_only = on")
            await writers.are_turned_away(60)
            owner.execute("set default_transaction_read_only = off")
            set_and_reload(owner, "default_transaction_read_only = off")
        await writers.get_on()
    assert await writers.faults(own_journal) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where mounting one is permitted."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_full_disk_turns_appends_away_until_there_is_room(
    small_disk: Path, own_server: OwnServer, own_journal: PostgresJournal
) -> None:
    owner_id = own_server.data.stat()
    tables = small_disk / "tables"
    tables.mkdir()
    os.chown(tables, owner_id.st_uid, owner_id.st_gid)
    for folder in (small_disk, *small_disk.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    with connected(own_server.database) as owner:
        owner.execute(f"create tablespace small location '{tables}'".encode())
        owner.execute("alter table event_journal set tablespace small")
    async with Writers(own_journal) as writers:
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as stream:
            while shutil.disk_usage(small_disk).free:
                stream.write(bytes(shutil.disk_usage(small_disk).free))
        await writers.are_turned_away(60)
        filler.unlink()
        await writers.get_on()
    assert await writers.faults(own_journal) == []


async def test_a_server_that_says_its_disk_is_full_turns_appends_away(
    postgres_journal: PostgresJournal, session: Session
) -> None:
    session.execute(
        "create function full_disk() returns trigger language plpgsql as "
        "$$ begin raise exception 'no space left on device' using errcode = 'disk_full'; end $$"
    )
    async with Writers(postgres_journal) as writers:
        session.execute(
            "create trigger full_disk before insert on event_tag for each row execute function full_disk()"
        )
        await writers.are_turned_away(60)
        session.execute("drop trigger full_disk on event_tag")
        await writers.get_on()
    assert await writers.faults(postgres_journal) == []


async def test_a_locked_table_turns_appends_away_until_it_is_free(
    postgres_journal: PostgresJournal, session: Session
) -> None:
    async with Writers(postgres_journal) as writers:
        session.execute("begin")
        session.execute("lock table event_journal in share mode")
        await writers.are_turned_away()
        session.execute("commit")
        await writers.get_on()
    assert await writers.faults(postgres_journal) == []


async def test_a_locked_shard_turns_its_own_appends_away_and_no_others(
    postgres_journal: PostgresJournal, session: Session
) -> None:
    names = [f"e{n}" for n in range(100)]
    locked = append_of(names[0], 0).shard
    session.execute("begin")
    session.execute("select cos_lock_shards(%s)", [[locked]])
    appends = [append_of(name, 0) for name in names]
    answers = await asyncio.gather(*map(postgres_journal.append, appends), return_exceptions=True)
    for append, answer in zip(appends, answers, strict=True):
        assert isinstance(answer, JournalUnavailable if append.shard == locked else int), answer
    session.execute("commit")
    async with Writers(postgres_journal) as writers:
        await writers.get_on()
    assert writers.denied == []


async def test_when_all_shards_are_locked_everybody_is_turned_away_and_nobody_waits_for_long(
    postgres_journal: PostgresJournal, session: Session
) -> None:
    async with Writers(postgres_journal) as writers:
        session.execute("begin")
        session.execute("select cos_lock_shards(array[0, 1, 2, 3])")
        await writers.are_turned_away(len(writers.names))
        session.execute("commit")
        await writers.get_on()
    assert await writers.faults(postgres_journal) == []


async def test_a_statement_that_takes_too_long_turns_appends_away(
    postgres_journal: PostgresJournal, session: Session
) -> None:
    session.execute(
        "create function slow() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.2); return new; end $$"
    )
    async with Writers(postgres_journal) as writers:
        # Thirty events need longer than a statement may take; the transaction ends with it.
        session.execute("create trigger slow before insert on event_tag for each row execute function slow()")
        await writers.are_turned_away()
        session.execute("drop trigger slow on event_tag")
        await writers.get_on()
    assert await writers.faults(postgres_journal) == []


async def test_a_hot_entity_holds_nobody_else_up(postgres_journal: PostgresJournal) -> None:
    hot = [append_of("hot", number) for number in range(400)]
    shard = hot[0].shard
    others = [a for a in (append_of(f"e{n}", 0) for n in range(100)) if a.shard == shard]
    burst = [asyncio.create_task(postgres_journal.append(append)) for append in hot]
    await asyncio.gather(*map(postgres_journal.append, others))
    # They came after four hundred, and were through before most of these.
    assert sum(task.done() for task in burst) < 200
    await asyncio.gather(*burst)


async def test_what_may_wait_is_bounded_and_what_was_accepted_is_stored(
    database: Database, session: Session
) -> None:
    journal = PostgresJournal(database, limits=BatchLimits(events=10, waiting_appends=100))
    await journal.open()
    appends = [append_of(f"e{n}", 0) for n in range(300)]
    session.execute("begin")
    session.execute("select cos_lock_shards(array[0, 1, 2, 3])")
    tasks = [asyncio.create_task(journal.append(append)) for append in appends]

    async def are_turned_away() -> bool:
        return sum(task.done() for task in tasks) == 200

    await until(are_turned_away)
    session.execute("commit")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [int] * 100 + [JournalUnavailable] * 200
    assert await journal.newest(EntityId("e99")) is not None
    assert await journal.newest(EntityId("e100")) is None
    await journal.close()


def terminate_all(owner: Session, user: str | None = None) -> None:
    """End every backend that serves a journal, and see it gone."""
    owner.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'cos_ray'"
        " and pid <> pg_backend_pid() and (%(user)s::text is null or usename = %(user)s)",
        {"user": user},
    )


def set_and_reload(owner: Session, setting: str) -> None:
    """Change a setting of the server, for every session."""
    owner.execute(f"alter system set {setting}".encode())
    owner.execute("select pg_reload_conf()")
