"""
The read handler: a table of all balances, kept up to date from the events.

Entities answer for themselves only. A question about many of them ("who owns how much?") is
answered by a table like this one, which may live in any database and be rebuilt at any time.

Events come at least once and, per account, in order. One may come again after it was handled (a
reply got lost, the read side was restarted), so every row keeps the revision it shows and takes
newer ones only.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2 import HandleReadSideRequest, HandleReadSideResponse
from cos_ray.protocol.pb.chief_of_state.v1.readside_pb2_grpc import (
    ReadSideHandlerServiceServicer,
    add_ReadSideHandlerServiceServicer_to_server,
)
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account
from cos_ray.samples.bank.serving import serve
from cos_ray.samples.bank.unpacking import NotUnderstood, unpack

logger = logging.getLogger(__name__)

_CREATE = """
    CREATE TABLE IF NOT EXISTS balances (
        account_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        balance INTEGER NOT NULL,
        is_open INTEGER NOT NULL,
        revision INTEGER NOT NULL
    )
"""

# The guard is part of the statement that writes, so no second delivery can slip in between.
_PUT = """
    INSERT INTO balances (account_id, owner, balance, is_open, revision) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (account_id) DO UPDATE SET
        owner = excluded.owner,
        balance = excluded.balance,
        is_open = excluded.is_open,
        revision = excluded.revision
    WHERE excluded.revision > balances.revision
"""

_ALL = "SELECT account_id, owner, balance, is_open, revision FROM balances ORDER BY account_id"


@dataclass(frozen=True, slots=True)
class Balance:
    """One row of the table: an account as of one of its revisions."""

    account_id: str
    owner: str
    balance: int
    """In cents."""
    is_open: bool
    revision: int
    """How many events the row has seen."""


class BalanceTable:
    """The table, in a SQLite file. A `put` that has returned survives a crash of the machine."""

    def __init__(self, path: Path) -> None:
        self._one_at_a_time = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        # With a write-ahead log, those who read the table never wait for those who write it.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        with self._database:
            self._database.execute(_CREATE)

    def put(self, row: Balance) -> bool:
        """Show this row from now on, unless a newer one is there; tell whether it changed anything."""
        values = (row.account_id, row.owner, row.balance, row.is_open, row.revision)
        with self._one_at_a_time, self._database:
            return self._database.execute(_PUT, values).rowcount == 1

    def put_all(self, rows: Iterable[Balance]) -> None:
        """Show these rows, all of them or none, each unless a newer one is there."""
        values = [(row.account_id, row.owner, row.balance, row.is_open, row.revision) for row in rows]
        with self._one_at_a_time, self._database:
            self._database.executemany(_PUT, values)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


def read_balances(path: Path) -> list[Balance]:
    """All rows, by account id; may be called while the read handler runs. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute(_ALL).fetchall()
    return [Balance(id_, owner, cents, bool(open_), revision) for id_, owner, cents, open_, revision in rows]


class BankReadHandler(ReadSideHandlerServiceServicer):
    """Writes each event's outcome into the table, then confirms the event."""

    def __init__(self, table: BalanceTable) -> None:
        self._table = table

    async def HandleReadSide(
        self,
        request: HandleReadSideRequest,
        context: grpc.aio.ServicerContext[HandleReadSideRequest, HandleReadSideResponse],
    ) -> HandleReadSideResponse:
        """Handle one event; without success it comes again."""
        try:
            # The state after the event comes along: there is nothing to add up.
            account = unpack(request.state, [Account])
        except NotUnderstood as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        meta = request.meta
        row = Balance(meta.entity_id, account.owner, account.balance, account.is_open, meta.revision_number)
        try:
            # In a thread, for a disk can be slow and other accounts' events should not wait.
            await asyncio.to_thread(self._table.put, row)
        except sqlite3.Error:
            logger.exception("balance not written", extra={"account_id": row.account_id})
            return HandleReadSideResponse(successful=False)
        return HandleReadSideResponse(successful=True)


async def serve_read_handler(host: str, port: int, database: Path) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError for the port, sqlite3.Error for the file."""
    with closing(BalanceTable(database)) as table:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_ReadSideHandlerServiceServicer_to_server(BankReadHandler(table), server)
        await serve(server, "bank read handler", host, port)
