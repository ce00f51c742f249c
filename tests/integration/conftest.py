"""A journal whose wire to the database can be cut, slowed and frozen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cos_ray.postgres.database import Database
from cos_ray.postgres.journal import PostgresJournal
from tests.support.journal import append_of
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
async def proxy(database: Database) -> AsyncIterator[TcpProxy]:
    """The wire."""
    async with TcpProxy(database.port) as proxy:
        yield proxy


@pytest.fixture
async def journal(database: Database, proxy: TcpProxy) -> AsyncIterator[PostgresJournal]:
    """A journal at its end, connected and warm."""
    journal = PostgresJournal(replace(database, port=proxy.port), settle_within=timedelta(seconds=4))
    await journal.open()
    # It is connected, and has prepared its statement.
    await asyncio.gather(*[journal.append(append_of(f"first-{n}", 0)) for n in range(10)])
    yield journal
    proxy.thaw()
    await journal.close()
