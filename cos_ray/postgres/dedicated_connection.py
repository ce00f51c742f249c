"""
A connection of one's own, made when it is needed and made again when it broke.

For the one who appends: nothing stands between it and the server, and it knows of every call
whether it was answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import select
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
from typing_extensions import LiteralString

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.postgres.database import Connection, Database, one_line, set_up_session
from cos_ray.postgres.refusal_log import refusals
from cos_ray.postgres.stall_guard import cut_after

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class DedicatedConnection:
    """One connection at most, used by one task at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._expires = 0.0
        self._outage: _Outage | None = None

    async def connection(self, within: timedelta) -> Connection:
        """
        The connection, checked and not too old.

        Raises JournalUnavailable when there is none to be had within that time.
        """
        if (found := self._connection) is not None:
            if time.monotonic() < self._expires and not is_stale(found):
                return found
            await self.drop()
        deadline = time.monotonic() + within.total_seconds()
        while self._outage is None or await self._outage.next_try(deadline):
            try:
                self._connection = await self._connect()
            except (psycopg.Error, OSError) as error:
                self._outage = self._outage or _Outage()
                self._outage.note(error)
                refusals.note("no connection to the database for appends", error)
            else:
                self._outage = None
                return self._connection
        raise JournalUnavailable(f"no connection to the journal: {one_line(self._outage.reason)}")

    async def call(
        self, query: LiteralString, parameters: Sequence[object], limit: timedelta
    ) -> list[tuple[Any, ...]]:
        """
        Run a prepared statement on the connection that `connection` returned; all its rows.

        When no answer comes within `limit`, the connection breaks.
        """
        connection = self._connection
        assert connection is not None
        with cut_after(limit, connection):
            cursor = connection.cursor(binary=True)
            await cursor.execute(query, parameters, prepare=True)
            return await cursor.fetchall()

    async def drop(self) -> None:
        """Close the connection, if there is one."""
        if (connection := self._connection) is not None:
            self._connection = None
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()

    async def _connect(self) -> Connection:
        connection: Connection = await psycopg.AsyncConnection.connect(**self._database.connect_arguments())
        try:
            await set_up_session(connection, self._database)
        except BaseException:
            await connection.close()
            raise
        lifetime = self._database.max_lifetime.total_seconds()
        self._expires = time.monotonic() + lifetime * random.uniform(0.9, 1.0)
        return connection


class _Outage:
    """A time in which no connection was to be had, and when the next try is due."""

    def __init__(self) -> None:
        self.reason: BaseException = OSError()
        self._pause = _FIRST_PAUSE
        self._next_try = 0.0

    def note(self, reason: BaseException) -> None:
        """A try failed."""
        self.reason = reason
        # Jitter, so that the processes of a cluster do not come back in step.
        self._next_try = time.monotonic() + self._pause * random.uniform(0.5, 1.5)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def next_try(self, deadline: float) -> bool:
        """Wait until it is due, and say yes; or no, at once, if that is too late."""
        wait = self._next_try - time.monotonic()
        if wait > 0:
            if self._next_try >= deadline:
                return False
            await asyncio.sleep(wait)
        return True


def is_stale(connection: Connection) -> bool:
    """
    Whether an idle connection has something to say, which is mostly its end. Costs no round trip.

    A notice or a changed setting looks the same; a new connection is as good then.
    """
    if connection.closed:
        return True
    poller = select.poll()
    poller.register(connection.pgconn.socket, select.POLLIN)
    return bool(poller.poll(0))
