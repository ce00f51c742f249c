"""
A connection of one's own, made when it is needed and made again when it broke.

For the one who appends: nothing stands between it and the server, and it knows of every call
whether it was answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import socket
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
from typing_extensions import LiteralString

from cos_ray.domain.errors import JournalUnavailable
from cos_ray.postgres.database import STATEMENT_TIMEOUT, Connection, Database, one_line, set_up_session

_CALL_LIMIT = STATEMENT_TIMEOUT + timedelta(seconds=2)
"""After that, a server that should have given up is taken for gone."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class Line:
    """One connection at most, used by one task at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._expires = 0.0

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
        pause = _FIRST_PAUSE
        while True:
            try:
                self._connection = await self._connect()
                return self._connection
            except (psycopg.Error, OSError) as error:
                # Jitter, so that the processes of a cluster do not come back in step.
                wait = pause * random.uniform(0.5, 1.5)
                if time.monotonic() + wait >= deadline:
                    raise JournalUnavailable(f"no connection to the journal: {one_line(error)}") from error
                await asyncio.sleep(wait)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def call(self, query: LiteralString, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Run a prepared statement on the connection that `connection` returned; all its rows."""
        connection = self._connection
        assert connection is not None
        watch = asyncio.get_running_loop().call_later(_CALL_LIMIT.total_seconds(), _cut, connection)
        try:
            cursor = connection.cursor(binary=True)
            await cursor.execute(query, parameters, prepare=True)
            return await cursor.fetchall()
        finally:
            watch.cancel()

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


def _cut(connection: Connection) -> None:
    """End a call that no one answers: its reader sees the connection close, and no cancel is sent."""
    # A duplicate, so that the connection's own socket stays the library's.
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
