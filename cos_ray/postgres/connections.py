"""
Connections shared by those who read, and by those whose writes may be repeated.

Every statement stands alone, so one that was cut off by a lost connection is simply run again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests
from typing_extensions import LiteralString

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.domain.pages import PageSize
from cos_ray.postgres.database import (
    CALL_LIMIT,
    Connection,
    Database,
    milliseconds,
    one_line,
    set_up_session,
)
from cos_ray.postgres.dedicated_connection import is_stale
from cos_ray.postgres.error_classes import FAILURES, Meaning, may_be_of_session, meaning_of
from cos_ray.postgres.refusal_log import refusals
from cos_ray.postgres.stall_guard import cut_after

Rows: TypeAlias = Sequence[tuple[Any, ...]]
Parameters: TypeAlias = Sequence[object] | Mapping[str, object]
Pool: TypeAlias = AsyncConnectionPool[Connection]

ANSWER_WITHIN = timedelta(seconds=3)
"""How long a statement may go without a connection, over all tries."""

_RETRY_FOR = timedelta(seconds=5)
"""After so many seconds of growing pauses the pool starts anew with short ones."""

_LONGEST_QUEUE = 1_000

_CUT_LATER_BY = timedelta(seconds=2)
"""After a statement with a time of its own, as after any other: see CALL_LIMIT."""

_CANCELED = "57014"

# The server is done, and idle in the transaction, while the last of what it sent is on its way.
_PATIENCE: LiteralString = """
    select
        set_config('statement_timeout', %(time)s::text, true),
        set_config('idle_in_transaction_session_timeout', %(in_all)s::text, true)
"""


class OutOfStatementTime(JournalUnavailable):
    """A statement took longer than it may: by the server's word, or it was cut off (`is_cut`)."""

    def __init__(self, reason: str, is_cut: bool) -> None:
        super().__init__(reason, is_cut)
        self.reason, self.is_cut = reason, is_cut

    def __str__(self) -> str:
        return self.reason


class Connections:
    """A pool of them; broken ones are replaced in the background, with jitter."""

    def __init__(
        self, database: Database, *, at_least: int, at_most: int, session: Mapping[str, str]
    ) -> None:
        """`session`: settings of every connection, beyond those that all have."""
        self._database, self._session = database, session
        self._at_least, self._at_most = min(at_least, at_most), at_most
        self._pool: Pool | None = None
        self.page_size = PageSize()
        """How large a page of rows with payloads may be on this wire (see `paging`)."""

    async def open(self) -> None:
        """Begin to connect; does not wait for it."""

        async def set_up(connection: Connection) -> None:
            await set_up_session(connection, self._database, self._session)

        async def begin_anew(pool: Pool) -> None:
            await pool.check()

        self._pool = AsyncConnectionPool(
            kwargs=self._database.connect_arguments(),
            min_size=self._at_least,
            max_size=self._at_most,
            max_idle=self._database.idle_timeout.total_seconds(),
            max_lifetime=self._database.max_lifetime.total_seconds(),
            max_waiting=_LONGEST_QUEUE,
            reconnect_timeout=_RETRY_FOR.total_seconds(),
            reconnect_failed=begin_anew,
            configure=set_up,
            open=False,
            name=f"{self._database.host}:{self._database.port}",
        )
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close them all."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def run(
        self, query: LiteralString, parameters: Parameters, patience: timedelta | None = None
    ) -> Rows:
        """
        Run a statement that may be repeated; its rows. `patience`: how long it may take, if not as usual.

        Raises JournalUnavailable; as OutOfStatementTime when it took too long.
        """
        deadline = time.monotonic() + ANSWER_WITHIN.total_seconds()
        limit = CALL_LIMIT if patience is None else patience + _CUT_LATER_BY
        while True:
            connection = await self._borrow(deadline)
            begun = time.monotonic()
            try:
                with cut_after(limit, connection):
                    if patience is None:
                        return await _rows(connection, query, parameters)
                    async with connection.transaction():
                        times = {"time": milliseconds(patience), "in_all": milliseconds(2 * limit)}
                        await connection.execute(_PATIENCE, times)
                        return await _rows(connection, query, parameters)
            except FAILURES as error:
                meaning = meaning_of(error, connection)
                if may_be_of_session(error, meaning):
                    await connection.close()
                if meaning is not Meaning.LOST:
                    refusals.note("the database refuses a statement", error)
                is_cut = meaning is Meaning.LOST and time.monotonic() - begun >= limit.total_seconds()
                if is_cut or (isinstance(error, psycopg.Error) and error.sqlstate == _CANCELED):
                    raise OutOfStatementTime(one_line(error), is_cut) from error
                if meaning is not Meaning.LOST or time.monotonic() > deadline:
                    raise JournalUnavailable(one_line(error)) from error
            finally:
                await self._give_back(connection)

    async def _borrow(self, deadline: float) -> Connection:
        if self._pool is None:
            raise JournalUnavailable("the journal is closed")
        while True:
            try:
                connection = await self._pool.getconn(timeout=max(0.01, deadline - time.monotonic()))
            except (PoolTimeout, PoolClosed, TooManyRequests, psycopg.Error) as error:
                raise JournalUnavailable(f"no connection to the journal: {one_line(error)}") from error
            # Looked at here and not by the pool's own check, which rests a second after each that
            # fails: after a restart of the server, all of them do.
            if not is_stale(connection):
                return connection
            await connection.close()
            await self._give_back(connection)

    async def _give_back(self, connection: Connection) -> None:
        if self._pool is None:
            await connection.close()
        else:
            await asyncio.shield(self._pool.putconn(connection))


async def _rows(connection: Connection, query: LiteralString, parameters: Parameters) -> Rows:
    cursor = connection.cursor(binary=True)
    await cursor.execute(query, parameters)
    return await cursor.fetchall() if cursor.description else ()
