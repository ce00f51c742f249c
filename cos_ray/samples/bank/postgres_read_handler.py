"""
A table in Postgres whose sums are right, although events may come more than once.

    readSideId: statements
    handler: cos_ray.samples.bank.postgres_read_handler:Statements

A balance can simply be overwritten by a newer one. A sum cannot: an event that comes again would be
counted again. So each row keeps the revision it has seen, what is newer is added in the very
statement that raises the revision, and what is not changes nothing. At-least-once delivery and this
guard together count every event exactly once, for events of an account never come out of order.

The database is named by the variable BANK_DATABASE_URL.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

import psycopg

from cos_ray import Delivered, DeliveryMeta
from cos_ray.samples.bank.accounts import Event
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account, MoneyDeposited, MoneyWithdrawn

_Row: TypeAlias = tuple[str, int, int, int, int]

_CREATE = """
    create table if not exists statements (
        account_id text primary key,
        balance bigint not null,
        paid_in bigint not null,
        paid_out bigint not null,
        revision bigint not null
    )
"""

_ADD = """
    insert into statements as s (account_id, balance, paid_in, paid_out, revision)
    values (%s, %s, %s, %s, %s)
    on conflict (account_id) do update set
        balance = excluded.balance,
        paid_in = s.paid_in + excluded.paid_in,
        paid_out = s.paid_out + excluded.paid_out,
        revision = excluded.revision
    where excluded.revision > s.revision
"""


class Statements:
    """Keeps a row for each account: its balance, and all that was ever paid in and out, in cents."""

    def __init__(self) -> None:
        self._url = os.environ.get("BANK_DATABASE_URL", "")
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def handle(self, event: Event, state: Account, meta: DeliveryMeta) -> None:
        """Handle one event."""
        self._write([_row(event, state, meta)])

    def handle_many(self, deliveries: Sequence[Delivered]) -> None:
        """Handle all of these or none; those of one account come in their order."""
        self._write([_row(each.event, each.state, each.meta) for each in deliveries])

    def _write(self, rows: list[_Row]) -> None:
        connection = self._connected()
        try:
            with connection.transaction():
                connection.cursor().executemany(_ADD, rows)
        except psycopg.OperationalError:
            # A new one next time; the events come again.
            connection.close()
            self._connection = None
            raise

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True)
            self._connection.execute(_CREATE)
        return self._connection


def _row(event: Event, account: Account, meta: DeliveryMeta) -> _Row:
    paid_in = event.amount if isinstance(event, MoneyDeposited) else 0
    paid_out = event.amount if isinstance(event, MoneyWithdrawn) else 0
    return meta.entity_id, account.balance, paid_in, paid_out, meta.revision
