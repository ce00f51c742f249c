"""
Ends the wait for a server that does not answer.

libpq waits for ever when the other end stays connected and says nothing: a stopped process, a
proxy whose far side is gone. Statements have their limits on the server, which is of no use then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg


@contextlib.contextmanager
def cut_after(limit: timedelta, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Break the connection if the block takes longer: who waits in it sees the server go away."""
    watch = asyncio.get_running_loop().call_later(limit.total_seconds(), _cut, connection)
    try:
        yield
    finally:
        watch.cancel()


def _cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """Its reader sees the connection close, and no cancel is sent."""
    # A duplicate, so that the connection's own socket stays the library's.
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
