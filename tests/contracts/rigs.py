"""Journals to which bad things can be made to happen, the same things to the fake and to the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.ids import Offset
from cos_ray.domain.messages import Append
from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from cos_ray.postgres.rows import columns, encode
from cos_ray.postgres.statements import statement
from cos_ray.testing.journal import Fault, MemoryJournal
from tests.contracts.conftest import AnyJournal
from tests.support.fixtures_postgres import connected
from tests.support.journal import append_of, until
from tests.support.tcp_proxy import Cut, TcpProxy


class Rig(Protocol):
    """A journal, and its fate."""

    @property
    def journal(self) -> AnyJournal:
        """The journal as its users see it."""
        ...

    def lose_next(self, *, stored: bool) -> None:
        """Let nobody hear what becomes of the next append."""
        ...

    def put_out_of_reach(self) -> None:
        """Let nothing and nobody reach it."""
        ...

    async def restore(self) -> None:
        """End all that, and wait until it works."""
        ...

    def committing_late(self, append: Append) -> AbstractAsyncContextManager[Offset]:
        """Another writer's append: carried out, and not committed before the block ends."""
        ...

    async def is_held_up(self) -> bool:
        """Whether an append waits for one that commits late."""
        ...


class MemoryRig:
    """The fake."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()

    def lose_next(self, *, stored: bool) -> None:
        self.journal.plant(Fault.UNKNOWN_BUT_STORED if stored else Fault.UNKNOWN_AND_NOT_STORED)

    def put_out_of_reach(self) -> None:
        self.journal.reachable = False

    async def restore(self) -> None:
        self.journal.reachable = True

    def committing_late(self, append: Append) -> AbstractAsyncContextManager[Offset]:
        return self.journal.committing_late(append)

    async def is_held_up(self) -> bool:
        # What has begun gets there in one turn of the loop.
        await asyncio.sleep(0)
        return True


class PostgresRig:
    """The real one, behind a wire that can be cut."""

    def __init__(self, journal: PostgresJournal, database: Database, proxy: TcpProxy) -> None:
        self.journal = journal
        self._database = database
        self._proxy = proxy

    def lose_next(self, *, stored: bool) -> None:
        self._proxy.cuts.append(Cut.BEFORE_THE_REPLY if stored else Cut.BEFORE_THE_CALL)
        self._proxy.refuses = True

    def put_out_of_reach(self) -> None:
        self._proxy.refuses = True
        self._proxy.cut_all()

    async def restore(self) -> None:
        self._proxy.refuses = False

        async def works() -> bool:
            try:
                # Writing and reading.
                await asyncio.gather(*[self.journal.append(append) for append in _warmers()])
                await self.journal.check()
            except JournalUnavailable:
                return False
            return True

        await until(works)

    @asynccontextmanager
    async def committing_late(self, append: Append) -> AsyncIterator[Offset]:
        with connected(self._database) as session, session.transaction():
            answers = session.execute(statement("append"), columns([encode(append)])).fetchall()
            [(_, offset)] = answers
            yield Offset(int(str(offset)))

    async def is_held_up(self) -> bool:
        with connected(self._database) as session:
            here = "database = (select oid from pg_database where datname = current_database())"
            return bool(session.execute(f"select from pg_locks where not granted and {here}").fetchall())


@asynccontextmanager
async def postgres_rig(database: Database) -> AsyncIterator[PostgresRig]:
    """A rig on this database."""
    async with TcpProxy(database.port) as proxy:
        far = replace(database, port=proxy.port)
        journal = PostgresJournal(far, settle_within=timedelta(seconds=0.3))
        await journal.open()
        await asyncio.gather(*[journal.append(append) for append in _warmers()])
        yield PostgresRig(journal, database, proxy)
        await journal.close()


def _warmers() -> list[Append]:
    """The same appends each time, which are stored once: they connect what is not connected."""
    return [append_of(f"warm-{number}", 0, command=f"warm-{number}") for number in range(10)]
